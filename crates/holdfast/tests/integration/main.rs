//! The built binary, as a person runs it. Each test has an address of its own (127.x.y.z).

mod demo;
