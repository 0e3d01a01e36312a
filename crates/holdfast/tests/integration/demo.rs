use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

#[test]
fn the_demo_reads_back_what_its_devices_send_and_explains_the_refusal() {
    let output = demo(&["--listen", "127.40.1.1", "--seconds", "15"]).output().expect("the demo runs");
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    for id in ["boiler-1", "compressor-1", "line-1", "motor-1", "tank-1", "valve-1", "valve-2", "gate-1"] {
        let row = text.lines().find(|line| line.starts_with(id)).unwrap_or_else(|| panic!("no {id}: {text}"));
        let words: Vec<&str> = row.split_whitespace().collect();
        let count = |at: usize| words[at].parse::<u64>().expect("a count");
        assert_eq!(words[1], "online", "{row}");
        assert!(count(2) >= count(3) && count(3) > 0 && count(4) > 0, "{row}");
        assert!(row.chars().any(|c| ('▁'..='█').contains(&c)), "{row}");
    }
    assert!(text.contains("CONNACK 5: not authorized; its clock is 3 h late"), "{text}");
    assert!(text.contains("Why meter-1 was refused"), "{text}");
    assert!(text.contains("2 h 0 min"), "the hub names how late the clock is: {text}");
    let story = [
        "CRITICAL   valve-1 and valve-2 have the same key",
        "DRY RUN    device valve-",
        "FIXED      device valve-",
    ];
    let told: Vec<_> =
        story.iter().map(|line| text.find(line).unwrap_or_else(|| panic!("no {line}: {text}"))).collect();
    assert!(told.is_sorted(), "{text}");
    assert!(text.contains("MEDIUM     gate-1 connected with a token that lives for 365 days"), "{text}");
    assert!(!text.contains("HIGH"), "the hub itself is set up well: {text}");
    assert!(text.contains("holdfast posture undo"), "{text}");
    assert!(text.contains("export HOLDFAST_READY_FILE="), "{text}");
    assert!(!text.contains("\x1b["), "no terminal, no escapes: {text}");
}

#[test]
fn a_port_that_is_in_use_is_replaced_and_ctrl_c_ends_the_demo() {
    let _taken = std::net::TcpListener::bind("127.40.1.2:443");
    let mut demo = demo(&["--listen", "127.40.1.2"]).spawn().expect("the demo runs");
    sleep(Duration::from_secs(3));
    let killed = Command::new("kill").args(["-INT", &demo.id().to_string()]).status().expect("kill runs");
    assert!(killed.success());
    let begun = Instant::now();
    while demo.try_wait().expect("a child").is_none() {
        if begun.elapsed() > Duration::from_secs(15) {
            let _ = demo.kill();
            panic!("the demo lingers");
        }
        sleep(Duration::from_millis(50));
    }
    let output = demo.wait_with_output().expect("its output");
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("HTTPS is on 8443, because 443 could not be bound"), "{text}");
}

fn demo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    command.arg("demo").args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env_remove("HOLDFAST_LISTEN").env_remove("HOLDFAST_HTTPS_PORT").env_remove("HOLDFAST_DATA");
    command
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
