//! What a decision costs: remembered tokens, new ones, denials; few routes and many; and the whole way of a message.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a benchmark that cannot run ends"
)]

mod scene;

use divan::{Bencher, black_box};
use portcullis::authz::algorithm::Algorithm;
use prost::Message;
use scene::{ALGORITHMS, Site};

const ROUTES: [usize; 2] = [10, 10_000];

fn main() {
    divan::main();
}

/// A token that was verified before.
#[divan::bench(args = ROUTES)]
fn allow_remembered(bencher: Bencher<'_, '_>, routes: usize) {
    let (snapshot, check) = (Site::new(routes, true).snapshot(), scene::message(Some(Algorithm::Rs256)));
    let raw = scene::raw(&check);
    assert!(scene::decide(&snapshot, &raw));
    bencher.bench_local(|| scene::decide(black_box(&snapshot), black_box(&raw)));
}

/// A token that was never seen.
#[divan::bench(args = ALGORITHMS)]
fn allow_first_seen(bencher: Bencher<'_, '_>, algorithm: Algorithm) {
    let (snapshot, check) = (Site::new(10, false).snapshot(), scene::message(Some(algorithm)));
    let raw = scene::raw(&check);
    assert!(scene::decide(&snapshot, &raw));
    bencher.bench_local(|| scene::decide(black_box(&snapshot), black_box(&raw)));
}

/// No token where one is needed.
#[divan::bench(args = ROUTES)]
fn deny(bencher: Bencher<'_, '_>, routes: usize) {
    let (snapshot, check) = (Site::new(routes, true).snapshot(), scene::message(None));
    let raw = scene::raw(&check);
    assert!(!scene::decide(&snapshot, &raw));
    bencher.bench_local(|| scene::decide(black_box(&snapshot), black_box(&raw)));
}

/// A message decoded, decided, recorded and answered.
#[divan::bench(args = [true, false])]
fn whole_check(bencher: Bencher<'_, '_>, allowed: bool) {
    let site = Site::new(10, true);
    let authorizer = site.authorizer();
    let message = scene::message(allowed.then_some(Algorithm::Rs256)).encode_to_vec().into();
    bencher.bench_local(|| scene::check(black_box(&authorizer), black_box(&message)));
}
