use std::time::{Duration, Instant};

/// What a connection waits for (OASIS part 2, section 2.4.5).
#[derive(Debug)]
pub(super) struct Timers {
    /// When the open exchange, or the answer to our close, has to be there.
    deadline: Option<Instant>,
    last_heard: Instant,
    /// Silence after which the peer is given up, once both have opened.
    silence_max: Option<Duration>,
    /// Interval of our heartbeats, and when the next is due.
    heartbeat: Option<(Duration, Instant)>,
}

impl Timers {
    pub(super) fn new(now: Instant, handshake_timeout: Duration) -> Self {
        Self { deadline: Some(now + handshake_timeout), last_heard: now, silence_max: None, heartbeat: None }
    }

    /// The connection is open: no more handshake, but heartbeats in both directions.
    pub(super) fn opened(&mut self, now: Instant, silence_max: Option<Duration>) {
        self.deadline = None;
        self.last_heard = now;
        self.silence_max = silence_max;
    }

    /// The peer has told how often it wants to hear from us.
    pub(super) fn set_heartbeat(&mut self, interval: Option<Duration>, now: Instant) {
        self.heartbeat = interval.map(|interval| (interval, now + interval));
    }

    /// We closed: from now on only the answer is waited for.
    pub(super) fn closing(&mut self, now: Instant, timeout: Duration) {
        self.deadline = Some(now + timeout);
        self.silence_max = None;
        self.heartbeat = None;
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.last_heard = now;
    }

    /// Whether the open exchange, or the answer to our close, took too long.
    pub(super) fn deadline_is_over(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// How long the peer has been silent, when that is too long.
    pub(super) fn peer_is_silent(&self, now: Instant) -> Option<Duration> {
        self.silence_max.filter(|max| self.last_heard + *max <= now)
    }

    /// Whether a heartbeat is due; the next one is set.
    pub(super) fn heartbeat_is_due(&mut self, now: Instant) -> bool {
        match &mut self.heartbeat {
            Some((interval, due)) if *due <= now => {
                *due = now + *interval;
                true
            }
            _ => false,
        }
    }

    pub(super) fn next(&self) -> Option<Instant> {
        let silence = self.silence_max.map(|max| self.last_heard + max);
        let heartbeat = self.heartbeat.map(|(_, due)| due);
        [self.deadline, silence, heartbeat].into_iter().flatten().min()
    }
}
