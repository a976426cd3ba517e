//! `hot_path CASE COUNT`: makes so many decisions of one kind and ends, for instruction counts (`bench/callgrind.sh`).
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a benchmark that cannot run ends"
)]

mod scene;

use std::hint::black_box;

use portcullis::authz::algorithm::Algorithm;
use prost::Message;
use scene::Site;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(case), Some(count)) = (arguments.next(), arguments.next()) else { panic!("usage: hot_path CASE COUNT") };
    let count: usize = count.parse().expect("a number");
    let token = (!case.ends_with("deny")).then_some(Algorithm::Rs256);
    let site = Site::new(if case.contains("10000") { 10_000 } else { 10 }, !case.contains("first_seen"));
    let check = scene::message(token);
    if case.starts_with("check") {
        let (authorizer, message) = (site.authorizer(), check.encode_to_vec().into());
        repeat_counted(count, || {
            black_box(scene::check(&authorizer, black_box(&message)));
        });
    } else {
        let (snapshot, raw) = (site.snapshot(), scene::raw(&check));
        repeat_counted(count, || assert_eq!(scene::decide(&snapshot, black_box(&raw)), token.is_some()));
    }
}

/// Only what runs in here is counted, and by its name.
#[inline(never)]
fn repeat_counted(count: usize, mut one: impl FnMut()) {
    for _ in 0..count {
        one();
    }
}
