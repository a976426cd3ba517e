//! `load ADDRESS allow|deny SECONDS [TOKENS]`: load for a profiler to look at. It prints the key set first, and begins when
//! a line is read from standard input.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use portcullis::authz::algorithm::Algorithm;
use portcullis_bench::load::{Failure, Shape, Verdict, measure};
use portcullis_bench::traffic::{Ask, anonymous, key_set, signed};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, verdict, seconds, rest @ ..] = &arguments[..] else {
        return Err("usage: load ADDRESS allow|deny SECONDS [TOKENS]".into());
    };
    let address: SocketAddr = address.parse()?;
    let tokens = rest.first().map_or(Ok(1), |count| count.parse())?;
    let expected = if verdict == "deny" { Verdict::Deny } else { Verdict::Allow };
    let asks: Arc<[Ask]> = match expected {
        Verdict::Allow => signed(Algorithm::Rs256, tokens).into(),
        Verdict::Deny => Arc::new([anonymous()]),
    };
    println!("{}", key_set());
    std::io::stdin().read_line(&mut String::new())?;
    let time = Duration::from_secs(seconds.parse()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let shape = Shape { connections: 8, streams: 8 };
    let measured = runtime.block_on(measure(address, shape, &asks, expected, time, || Duration::ZERO))?;
    println!("{:.0} checks/s, p50 {:?}, p99 {:?}", measured.rate, measured.p50, measured.p99);
    Ok(())
}
