//! No key leaves the memory of the hub: not into its files, not into its logs, not into a core dump.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use sim::{Device, EventReader, Message, QoS, SasKey};

use crate::support::{Hub, HubOptions, Rest, device_body};

/// A secret, and the one file in which it may stand.
struct Secret {
    name: &'static str,
    text: String,
    only_in: Option<&'static str>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_key_and_no_token_is_found_in_the_data_or_in_the_logs() {
    let place = tempfile::tempdir().unwrap();
    let (data, log) = (place.path().join("data"), place.path().join("hub.log"));
    let options = HubOptions { environment: vec![("HOLDFAST_LOG", "trace".into())], ..HubOptions::default() };
    let hub = Hub::start(&data, &log, &options);
    let mut secrets = secrets_of(&hub);
    traffic(&hub, &mut secrets).await;
    // The write-ahead log is searched before it is folded into the database, and the database after that.
    let mut found = search(&data, &log, &secrets);
    stop(hub);
    found.extend(search(&data, &log, &secrets));
    found.sort();
    found.dedup();
    assert!(found.is_empty(), "{found:#?}");
    let searched = files(&data).len();
    println!(
        "figure: {} secrets, each in 5 spellings, are in none of {searched} files and not in the log",
        secrets.len()
    );
    let log = fs::read_to_string(&log).unwrap();
    assert!(log.contains(" TRACE "), "the log says everything at this level");
    // A token is as good as a key for as long as it lives, and a payload is its owner's business.
    for private in ["sig=", "SharedAccessSignature s", "all is well"] {
        let line = log.lines().find(|line| line.contains(private));
        assert!(line.is_none(), "`{private}` stands in the log: {line:?}");
    }
}

/// The judge itself is judged: each spelling is found where it stands.
#[test]
fn a_key_in_a_file_is_found_in_every_spelling() {
    let place = tempfile::tempdir().unwrap();
    let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let secrets = [Secret { name: "key", text: key.to_owned(), only_in: None }];
    for (at, spelling) in spellings(key).iter().enumerate() {
        fs::write(place.path().join(format!("{at}")), [b"x", &spelling[..], b"y"].concat()).unwrap();
    }
    let missing = place.path().join("no log");
    let found: BTreeSet<_> = search(place.path(), &missing, &secrets).into_iter().collect();
    assert_eq!(found.len(), spellings(key).len(), "{found:?}");
}

#[test]
fn a_crash_leaves_no_core_file() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("work");
    fs::create_dir(&directory).unwrap();
    // The shell allows core files, in the working directory or wherever the kernel puts them.
    let shell = "ulimit -c unlimited; cd \"$HOLDFAST_WORK\"; exec \"$@\"";
    let options =
        HubOptions { environment: vec![("HOLDFAST_WORK", directory.clone().into())], shell: Some(shell) };
    let mut hub = Hub::start(&place.path().join("data"), &place.path().join("hub.log"), &options);
    let limits = fs::read_to_string(format!("/proc/{}/limits", hub.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    let before = cores(&directory);
    // The standard library takes the first one for a stack overflow, finds that it is none, and lets the next one kill.
    while hub.is_alive() {
        let killed = Command::new("kill").args(["-SEGV", &hub.pid().to_string()]).status().unwrap();
        assert!(killed.success() || !hub.is_alive());
        std::thread::sleep(Duration::from_millis(50));
    }
    let status = hub.wait();
    assert_eq!(status.signal(), Some(11), "{status}");
    assert!(!status.core_dumped(), "the kernel says that it dumped core: {status}");
    assert_eq!(cores(&directory), before, "a core file was left");
}

#[test]
fn a_master_key_in_a_variable_is_taken_out_of_the_environment() {
    let place = tempfile::tempdir().unwrap();
    let (data, log) = (place.path().join("data"), place.path().join("hub.log"));
    let key = STANDARD.encode([7; 32]);
    let options = HubOptions {
        environment: vec![("HOLDFAST_MASTER_KEY", key.clone().into())],
        ..HubOptions::default()
    };
    let hub = Hub::start(&data, &log, &options);
    assert!(!data.join("master.key").exists(), "the key was given");
    match fs::read(format!("/proc/{}/environ", hub.pid())) {
        Ok(environment) => {
            let environment = String::from_utf8_lossy(&environment);
            assert!(environment.contains("HOLDFAST_LOG=info"), "it is the environment of the hub");
            assert!(!environment.contains(&key), "the key stands there");
        }
        // Who is not root may not look: the process is not dumpable.
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied),
    }
    let log_text = hub.log();
    assert!(!log_text.contains("stays in the environment"), "{log_text}");
    stop(hub);
    // Another key opens nothing.
    let wrong = STANDARD.encode([8; 32]);
    let mut command = Command::new(
        std::env::var_os("HOLDFAST_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_holdfast").into()),
    );
    command.args([
        "serve",
        "--listen",
        "127.0.0.1",
        "--https-port",
        "0",
        "--mqtt-port",
        "0",
        "--amqp-port",
        "0",
        "--data",
    ]);
    let done = command.arg(&data).env("HOLDFAST_MASTER_KEY", wrong).output().unwrap();
    assert!(!done.status.success());
    assert!(String::from_utf8_lossy(&done.stderr).contains("another one"), "{done:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_their_owners_alone_whatever_the_umask() {
    for (umask, shell) in [("000", "umask 000; exec \"$@\""), ("277", "umask 277; exec \"$@\"")] {
        let place = tempfile::tempdir().unwrap();
        let (data, log) = (place.path().join("data"), place.path().join("hub.log"));
        // A directory that is there keeps its mode, and what is made in it does not follow.
        fs::create_dir(&data).unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(&log, "").unwrap();
        let hub = Hub::start(&data, &log, &HubOptions { shell: Some(shell), ..HubOptions::default() });
        traffic(&hub, &mut Vec::new()).await;
        let (mut seen, mut folders) = (BTreeSet::new(), vec![data.clone()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                let (name, metadata) = (entry.file_name().into_string().unwrap(), entry.metadata().unwrap());
                let mode = metadata.permissions().mode() & 0o777;
                let expected = match (metadata.is_dir(), name.as_str()) {
                    (true, _) => 0o700,
                    (false, "ca.pem" | "server.pem" | "server-rsa.pem") => 0o644,
                    (false, _) => 0o600,
                };
                assert_eq!(mode, expected, "{name} with the umask {umask}");
                if metadata.is_dir() {
                    folders.push(entry.path());
                }
                seen.insert(name);
            }
        }
        for name in [
            "registry.db",
            "registry.db-wal",
            "registry.db-shm",
            "server.key",
            "keys.json",
            "journal",
            "uploads",
        ] {
            assert!(seen.contains(name), "{name} is not there: {seen:?}");
        }
        let ready = fs::metadata(hub.ready_file()).unwrap().permissions().mode() & 0o777;
        assert_eq!(ready, 0o600);
        stop(hub);
    }
}

/// Core files where the kernel's pattern would put them.
fn cores(directory: &Path) -> Vec<PathBuf> {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    let mut places = vec![directory.to_owned()];
    // A pattern that begins with `|` feeds a program; the undumpable process gives it nothing, as the status shows.
    places
        .extend(Path::new(pattern.trim()).parent().filter(|parent| parent.is_absolute()).map(Path::to_owned));
    places.push("/var/lib/systemd/coredump".into());
    let entries = places.iter().flat_map(fs::read_dir).flatten().flatten().map(|entry| entry.path());
    let mut cores: Vec<_> = entries.filter(|path| path.to_string_lossy().contains("core")).collect();
    cores.sort();
    cores
}

/// What the hub made at its first start.
fn secrets_of(hub: &Hub) -> Vec<Secret> {
    let mut secrets = Vec::new();
    for text in hub.ready["policies"].as_object().unwrap().values() {
        let key = text.as_str().unwrap().rsplit_once("SharedAccessKey=").unwrap().1;
        secrets.push(Secret { name: "key of a policy", text: key.to_owned(), only_in: None });
    }
    let read = |path: &Path| fs::read_to_string(path).unwrap().trim().to_owned();
    let credential = Path::new(hub.ready["management_credential_file"].as_str().unwrap());
    let data = credential.parent().unwrap();
    secrets.push(Secret {
        name: "management credential",
        text: read(credential),
        only_in: Some("management.credential"),
    });
    secrets.push(Secret {
        name: "master key",
        text: read(&data.join("master.key")),
        only_in: Some("master.key"),
    });
    secrets
}

/// Devices, modules and back ends that come with the right keys and with wrong ones.
async fn traffic(hub: &Hub, secrets: &mut Vec<Secret>) {
    let mut key = |name, seed: u8| {
        let text =
            STANDARD.encode((0..32).map(|at| seed.wrapping_mul(37).wrapping_add(at)).collect::<Vec<u8>>());
        secrets.push(Secret { name, text: text.clone(), only_in: None });
        text
    };
    let [primary, secondary, module, changed, wrong] = [
        key("primary key of a device", 1),
        key("secondary key of a device", 2),
        key("key of a module", 3),
        key("new key of a device", 4),
        key("key that nobody has", 5),
    ];
    let rest = Rest::new(hub);
    let (one, other, of_module, new, unknown) =
        (primary.clone(), secondary.clone(), module.clone(), changed.clone(), wrong.clone());
    let asked = tokio::task::spawn_blocking(move || {
        let keys = |primary: &str, secondary: &str| json!({"primaryKey": primary, "secondaryKey": secondary});
        let mut device = device_body("keeper", "new", &one);
        device["authentication"]["symmetricKey"] = keys(&one, &other);
        assert_eq!(rest.create("/devices/keeper", &device).unwrap().status, 200);
        let body = json!({
            "deviceId": "keeper",
            "moduleId": "lock",
            "authentication": { "type": "sas", "symmetricKey": keys(&of_module, &of_module) },
        });
        assert_eq!(rest.create("/devices/keeper/modules/lock", &body).unwrap().status, 200);
        rest.register("changing", &one);
        let answer =
            rest.service("PUT", "/devices/changing", Some(&device_body("changing", "changed", &new)));
        assert_eq!(answer.unwrap().status, 200);
        // Refusals: a wrong key, a malformed one, a body that is none.
        assert_eq!(rest.telemetry("keeper", &unknown, b"no").unwrap().status, 401);
        let short = rest.create("/devices/short", &device_body("short", "new", &one[..20]));
        assert_eq!(short.unwrap().status, 400);
        let mut broken = device_body("keeper", "new", &one);
        broken["authentication"]["type"] = json!("nonsense");
        assert_eq!(rest.create("/devices/broken", &broken).unwrap().status, 400);
        assert_eq!(rest.own("/holdfast/v1/policies").unwrap().status, 200);
    });
    asked.await.unwrap();
    for key in [&primary, &secondary] {
        let mut device = Device::connect(&hub.device("keeper", key)).await.unwrap();
        let message = Message { body: b"all is well"[..].into(), properties: &[("room", "7")] };
        device.publish(&message, QoS::AtLeastOnce).await.unwrap();
        device.subscribe("devices/keeper/messages/devicebound/#").await.unwrap();
        device.disconnect().await;
    }
    assert!(Device::connect(&hub.device("keeper", &wrong)).await.is_err());
    assert!(Device::connect(&hub.device("nobody", &wrong)).await.is_err());
    let mut reader = EventReader::connect(&hub.reader()).await.unwrap();
    assert_eq!(reader.next().await.unwrap().device, "keeper");
    reader.close().await;
    let mut stranger = hub.reader();
    stranger.key = SasKey::of_event_hubs("iothubowner", &wrong);
    assert!(EventReader::connect(&stranger).await.is_err());
}

fn stop(mut hub: Hub) {
    assert!(Command::new("kill").args(["-TERM", &hub.pid().to_string()]).status().unwrap().success());
    assert!(hub.wait().success());
}

/// As it is, its bytes, and hexadecimal of both kinds; base64 with the other alphabet, without its end.
fn spellings(text: &str) -> Vec<Vec<u8>> {
    let raw = STANDARD.decode(text).unwrap_or_else(|_| text.as_bytes().to_vec());
    let hexadecimal: String = raw.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut all = vec![
        text.as_bytes().to_vec(),
        text.trim_end_matches('=').replace('+', "-").replace('/', "_").into_bytes(),
        raw,
        hexadecimal.to_uppercase().into_bytes(),
        hexadecimal.into_bytes(),
    ];
    all.sort();
    all.dedup();
    all
}

fn search(data: &Path, log: &Path, secrets: &[Secret]) -> Vec<String> {
    let mut found = Vec::new();
    for path in files(data).into_iter().chain(log.exists().then(|| log.to_owned())) {
        let bytes = fs::read(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        for secret in secrets.iter().filter(|secret| secret.only_in != Some(&*name)) {
            for spelling in spellings(&secret.text) {
                if bytes.windows(spelling.len()).any(|window| window == spelling) {
                    found.push(format!("the {} is in {}", secret.name, path.display()));
                }
            }
        }
    }
    found
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { all.extend(files(&path)) } else { all.push(path) }
    }
    all
}
