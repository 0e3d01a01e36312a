//! Where MQTT connections are served: a lane for each processor, which is one thread that stays there.
//!
//! What a message passes through, from the kernel's socket to the acknowledgement, is then in the caches of one processor. Threads
//! that go wherever there is room make two processors hand the same lines of memory to and fro, for each message anew: where
//! the two share no cache, that took half of the time of a hub (`docs/performance.md`). Each lane has a listener of its own on the
//! same port, and the kernel gives a connection to that of the processor which received it. There it stays, unless the lane has
//! more than its share already.
//!
//! This is for devices, of which there are many, and each does little. What a single connection can keep a processor busy with, as
//! a reader of the stream does, is left to threads that share the work.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::net::sockopt::set_socket_incoming_cpu;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{Builder, Handle, Runtime};

/// Connections that wait to be accepted by one listener, at most.
const BACKLOG: u32 = 1_024;
/// Connections that a lane may have beyond its share before another one takes them.
const UNEVEN_MAX: usize = 64;

/// The threads of the lanes. They end with this, which must not be dropped in one of them.
pub(crate) struct LaneThreads {
    lanes: Lanes,
    _runtimes: Vec<Runtime>,
}

/// The lanes, or none: then connections are served by the threads of whoever accepts them.
#[derive(Clone, Default)]
pub(crate) struct Lanes(Arc<[Lane]>);

struct Lane {
    processor: u32,
    handle: Handle,
    connections: Arc<AtomicUsize>,
}

/// Where connections come in: a listener, and the lane that it belongs to.
pub(crate) struct Entry {
    /// What accepts them.
    pub(crate) listener: TcpListener,
    lanes: Lanes,
    lane: usize,
}

/// The place of one connection, which counts for as long as this lives.
pub(crate) struct Seat {
    handle: Handle,
    connections: Option<Arc<AtomicUsize>>,
}

impl LaneThreads {
    /// Starts a lane on each processor that this process may use, where there are several. None, where a quota leaves it less
    /// than all of each: threads that stay would wait while others have room.
    pub(crate) fn start() -> io::Result<Self> {
        let allowed = match sched_getaffinity(None) {
            Ok(allowed) => allowed,
            Err(error) => {
                tracing::warn!(%error, "MQTT has no lanes: the processors of this process are not told");
                return Ok(Self::none());
            }
        };
        let processors: Vec<_> =
            (0..CpuSet::MAX_CPU).filter(|processor| allowed.is_set(*processor)).collect();
        let usable = thread::available_parallelism().map_or(1, usize::from);
        if processors.len() < 2 || usable < processors.len() {
            Ok(Self::none())
        } else {
            Self::on(&processors)
        }
    }

    fn on(processors: &[usize]) -> io::Result<Self> {
        let (mut lanes, mut runtimes) = (Vec::new(), Vec::new());
        for &processor in processors {
            let runtime = Builder::new_multi_thread()
                .worker_threads(1)
                .thread_name("mqtt-lane")
                .on_thread_start(move || stay_on(processor))
                .enable_all()
                .build()?;
            let (handle, connections) = (runtime.handle().clone(), Arc::default());
            lanes.push(Lane { processor: processor as u32, handle, connections });
            runtimes.push(runtime);
        }
        Ok(Self { lanes: Lanes(lanes.into()), _runtimes: runtimes })
    }

    /// No lanes.
    pub(crate) fn none() -> Self {
        Self { lanes: Lanes::default(), _runtimes: Vec::new() }
    }

    /// The lanes, for what listens.
    pub(crate) fn lanes(&self) -> Lanes {
        self.lanes.clone()
    }
}

impl Lanes {
    /// Listens, with an entry for each lane; port 0 is one that is free, the same for all. Within a runtime.
    pub(crate) fn listen(&self, mut address: SocketAddr) -> io::Result<Vec<Entry>> {
        // Alone: a port that sockets share may be shared with another process of this user, which would go unnoticed.
        let alone = socket(address)?;
        alone.bind(address)?;
        let listener = alone.listen(BACKLOG)?;
        if self.0.is_empty() {
            return Ok(vec![Entry { listener, lanes: self.clone(), lane: 0 }]);
        }
        drop(listener);
        let mut entries = Vec::new();
        for (at, lane) in self.0.iter().enumerate() {
            let listener = lane.listen(address)?;
            address = listener.local_addr()?;
            entries.push(Entry { listener, lanes: self.clone(), lane: at });
        }
        Ok(entries)
    }
}

/// A socket to listen with. What is small goes out at once on the connections that it accepts, too.
fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

impl Lane {
    fn listen(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let socket = socket(address)?;
        socket.set_reuseport(true)?;
        // Without it the kernel spreads connections evenly, which is slower and works as well.
        let _ = set_socket_incoming_cpu(&socket, self.processor);
        socket.bind(address)?;
        let _there = self.handle.enter();
        socket.listen(BACKLOG)
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    fn seat(&self) -> Seat {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Seat { handle: self.handle.clone(), connections: Some(self.connections.clone()) }
    }
}

impl Entry {
    /// Where to accept.
    pub(crate) fn handle(&self) -> Handle {
        self.own().map_or_else(Handle::current, |lane| lane.handle.clone())
    }

    /// Finds a place for a connection that was accepted here. The stream is for what is spawned there.
    pub(crate) fn seat(&self, stream: TcpStream) -> io::Result<(TcpStream, Seat)> {
        let lanes = &self.lanes.0;
        let Some((own, least)) = self.own().zip(lanes.iter().min_by_key(|lane| lane.connections())) else {
            return Ok((stream, Seat { handle: Handle::current(), connections: None }));
        };
        if is_bearable(own.connections(), least.connections()) {
            return Ok((stream, own.seat()));
        }
        let stream = stream.into_std()?;
        let _there = least.handle.enter();
        Ok((TcpStream::from_std(stream)?, least.seat()))
    }

    fn own(&self) -> Option<&Lane> {
        self.lanes.0.get(self.lane)
    }
}

/// Whether a lane with so many connections may have one more, where another one has so few.
fn is_bearable(own: usize, least: usize) -> bool {
    own <= least + least / 4 + UNEVEN_MAX
}

impl Seat {
    /// Where to spawn what serves the connection.
    pub(crate) fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(connections) = &self.connections {
            connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn stay_on(processor: usize) {
    let mut set = CpuSet::new();
    set.set(processor);
    if let Err(error) = sched_setaffinity(None, &set) {
        tracing::warn!(%error, processor, "a thread that serves MQTT could not be kept on its processor");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::mpsc;
    use tokio::time::timeout;

    use super::*;

    /// Two, where this machine may have but one processor: then both threads share it.
    fn two_lanes() -> LaneThreads {
        let allowed = sched_getaffinity(None).expect("the processors of this process");
        let first = (0..CpuSet::MAX_CPU).find(|processor| allowed.is_set(*processor)).expect("a processor");
        LaneThreads::on(&[first, first]).expect("threads")
    }

    fn any_port() -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
    }

    /// Accepts at each entry, and tells of the thread that each connection is served by.
    fn serve(entries: Vec<Entry>) -> mpsc::UnboundedReceiver<(thread::ThreadId, Seat)> {
        let (served, told) = mpsc::unbounded_channel();
        for entry in entries {
            let served = served.clone();
            entry.handle().spawn(async move {
                while let Ok((stream, _)) = entry.listener.accept().await {
                    let (mut stream, seat) = entry.seat(stream).expect("a seat");
                    let served = served.clone();
                    seat.handle().spawn(async move {
                        let byte = stream.read_u8().await.expect("a byte");
                        stream.write_u8(byte).await.expect("an answer");
                        let _ = served.send((thread::current().id(), seat));
                    });
                }
            });
        }
        told
    }

    #[test]
    fn what_all_comes_in_at_one_lane_is_shared_out() {
        let threads = two_lanes();
        let lanes = threads.lanes();
        let runtime = Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let entries = lanes.listen(any_port()).expect("a free port");
            let address = entries[0].listener.local_addr().expect("an address");
            assert!(entries.iter().all(|entry| entry.listener.local_addr().ok() == Some(address)));
            // All of them come in at one lane, as from a network card with one queue.
            let mut told = serve(entries.into_iter().take(1).collect());
            let (mut clients, mut seats, mut ids) = (Vec::new(), Vec::new(), HashSet::new());
            for _ in 0..400 {
                let mut client = TcpStream::connect(address).await.expect("a connection");
                client.write_u8(7).await.expect("a byte is written");
                assert_eq!(client.read_u8().await.expect("an answer"), 7);
                clients.push(client);
                let (id, seat) =
                    timeout(Duration::from_secs(10), told.recv()).await.expect("in time").expect("it");
                ids.insert(id);
                seats.push(seat);
            }
            assert_eq!(ids.len(), 2, "two threads serve");
            let counts: Vec<_> = lanes.0.iter().map(Lane::connections).collect();
            assert_eq!(counts.iter().sum::<usize>(), 400);
            let (most, least) = (counts.iter().max().expect("two"), counts.iter().min().expect("two"));
            assert!(most - least <= least / 4 + UNEVEN_MAX + 1, "{counts:?}");
            seats.truncate(150);
            assert_eq!(lanes.0.iter().map(Lane::connections).sum::<usize>(), 150);
        });
    }

    #[test]
    fn a_port_that_is_taken_is_refused_although_lanes_share_theirs() {
        let threads = two_lanes();
        let runtime = Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let first = threads.lanes().listen(any_port()).expect("a free port");
            let address = first[0].listener.local_addr().expect("an address");
            for lanes in [threads.lanes(), Lanes::default()] {
                let error = lanes.listen(address).err().expect("the port is taken");
                assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
            }
            drop(first);
            assert!(threads.lanes().listen(address).is_ok(), "it is free again");
        });
    }

    #[test]
    fn without_lanes_whoever_accepts_serves() {
        let runtime = Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let entries = LaneThreads::none().lanes().listen(any_port()).expect("a free port");
            let address = entries[0].listener.local_addr().expect("an address");
            assert_eq!(entries.len(), 1);
            let mut told = serve(entries);
            let mut client = TcpStream::connect(address).await.expect("a connection");
            client.write_u8(7).await.expect("a byte is written");
            assert!(timeout(Duration::from_secs(10), told.recv()).await.expect("in time").is_some());
        });
    }
}
