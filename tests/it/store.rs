//! The store with a real Redis, in good and in bad hours: what cannot be told is said so, in time, and it recovers by itself.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use portcullis::authz::time::Timestamp;
use portcullis::clock::now;
use portcullis::store::redis::{Account, Address, Roots, Settings};
use portcullis::store::{Entry, Event, Fault, Revocations, Store, Subscription, Unavailable};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::time::{interval, timeout};

use crate::parts::redis::{PASSWORD, Redis, USER, redis_program};
use crate::support::{ANY_PORT, DEADLINE, Process, TempDir, deserted_address};

/// What an operation may take, as the policy's default.
const LIMIT: Duration = Duration::from_millis(50);

fn settings(address: Address) -> Settings {
    Settings {
        address,
        roots: None,
        account: Account { user: Some(USER.into()), password: Some(PASSWORD.into()), database: 0 },
        deadline: LIMIT,
        prefix: "portcullis:".into(),
    }
}

fn tcp((host, port): (&str, u16)) -> Address {
    Address::Tcp(host.into(), port)
}

fn store(redis: &Redis) -> Store {
    Store::redis(&settings(tcp(redis.address()))).unwrap()
}

/// One whose operations may take long: for what is not about time, on a machine that is busy.
fn patient(redis: &Redis) -> Store {
    Store::redis(&Settings { deadline: DEADLINE, ..settings(tcp(redis.address())) }).unwrap()
}

fn store_at(address: SocketAddr) -> Store {
    Store::redis(&settings(Address::Tcp("127.0.0.1".into(), address.port()))).unwrap()
}

/// A key that nobody has seen.
fn fresh() -> [u8; 32] {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    portcullis::authz::digest::of("test", &[&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes()])
}

async fn ask(store: &Store) -> Result<bool, Fault> {
    let (key, at) = (fresh(), now());
    let asked = store.first_seen(&key, at.plus(Duration::from_secs(60)), at);
    // An answer comes in time: were the store's own deadline not kept, this hang would be the failure.
    timeout(DEADLINE, asked).await.expect("an operation hangs").map_err(|Unavailable(fault)| fault)
}

/// Asks until it answers.
async fn answers(store: &Store) {
    let answered = async {
        let mut beat = interval(Duration::from_millis(2));
        while ask(store).await != Ok(true) {
            beat.tick().await;
        }
    };
    timeout(DEADLINE, answered).await.expect("it recovers");
}

/// Asks until it fails so, and until it is not asked any more. It answers never.
async fn fails(store: &Store, expected: Fault) {
    let failed = async {
        let mut beat = interval(Duration::from_millis(2));
        for expected in [expected, Fault::CircuitOpen] {
            loop {
                let answer = ask(store).await;
                assert!(answer.is_err(), "{expected}: {answer:?}");
                if answer == Err(expected) {
                    break;
                }
                beat.tick().await;
            }
        }
    };
    timeout(DEADLINE, failed).await.unwrap_or_else(|_| panic!("it never fails so: {expected}"));
    assert!(store.circuit_is_open());
}

fn entry(key: &str, secs: u64) -> Entry {
    Entry {
        key: key.as_bytes().into(),
        value: b"v\0\r\n".as_slice().into(),
        expires: now().plus(Duration::from_secs(secs)),
    }
}

async fn next(events: &mut Subscription) -> Event {
    timeout(DEADLINE, events.next()).await.expect("nothing is heard").expect("the store has ended")
}

/// The next event but for epochs that are as they should be.
async fn heard(events: &mut Subscription, known: Option<u64>) -> Event {
    loop {
        let event = next(events).await;
        if event != Event::Epoch(known) {
            return event;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_all_who_ask_on_all_replicas_one_is_the_first() {
    let Some(program) = redis_program() else { return };
    let redis = Redis::start(&program);
    let replicas = [patient(&redis), patient(&redis)];
    for replica in &replicas {
        answers(replica).await;
    }
    let until = now().plus(Duration::from_secs(60));
    for _ in 0..20 {
        let key = fresh();
        let asked = (0..16).map(|at| {
            let store = replicas[at % 2].clone();
            tokio::spawn(async move { store.first_seen(&key, until, now()).await })
        });
        let mut firsts = 0;
        for asked in asked.collect::<Vec<_>>() {
            firsts += usize::from(asked.await.unwrap().unwrap());
        }
        assert_eq!(firsts, 1);
    }
    let forgotten = redis.command(&["KEYS", "portcullis:seen:*"]);
    assert_ne!(forgotten, "*0");
    assert_eq!(immortal(&redis), "");
}

/// The keys that never expire, R02.
fn immortal(redis: &Redis) -> String {
    let script = "local found = '' for _, key in ipairs(redis.call('KEYS', '*')) do \
        if redis.call('PTTL', key) == -1 then found = found .. key .. ' ' end end return found";
    redis.command(&["EVAL", script, "0"])
}

#[tokio::test] // R02
async fn what_was_seen_is_forgotten_when_its_time_has_passed_and_only_the_index_of_revocations_stays() {
    let Some(program) = redis_program() else { return };
    let redis = Redis::start(&program);
    let store = patient(&redis);
    answers(&store).await;
    let key = fresh();
    assert_eq!(store.first_seen(&key, now().plus(Duration::from_millis(300)), now()).await, Ok(true));
    let again = async { while store.first_seen(&key, now().plus(Duration::from_secs(60)), now()).await != Ok(true) {} };
    timeout(DEADLINE, again).await.unwrap();
    store.seed(1, &[entry("a", 60)], now()).await.unwrap();
    let mut left: Vec<_> = immortal(&redis).split_whitespace().map(str::to_owned).collect();
    left.sort();
    assert_eq!(left, ["portcullis:revocations", "portcullis:revocations:epoch", "portcullis:revocations:expiry"]);
}

#[tokio::test]
async fn every_way_to_connect_leads_there() {
    let Some(program) = redis_program() else { return };
    let redis = Redis::start(&program);
    let tls = Some(Roots::File(redis.ca()));
    let by_address = ("127.0.0.1", redis.tls_address().1);
    for settings in [
        settings(Address::Unix(redis.socket())),
        Settings { roots: tls.clone(), ..settings(tcp(redis.tls_address())) },
        Settings { roots: tls, ..settings(tcp(by_address)) },
        Settings {
            account: Account { database: 3, ..settings(tcp(redis.address())).account },
            ..settings(tcp(redis.address()))
        },
    ] {
        answers(&Store::redis(&settings).unwrap()).await;
    }
    assert!(redis.command(&["INFO", "keyspace"]).contains("db3:keys=1"));
}

#[tokio::test] // R01
async fn one_that_is_down_at_the_start_dies_pauses_and_comes_back_empty_is_unavailable_and_then_not() {
    let Some(program) = redis_program() else { return };
    let mut redis = Redis::start(&program);
    redis.kill();
    let store = store(&redis);
    fails(&store, Fault::Unreachable).await;
    redis.restart();
    answers(&store).await;

    redis.kill();
    fails(&store, Fault::Unreachable).await;
    assert!(store.load_all(now()).await.is_err());
    redis.restart();
    answers(&store).await;

    // Slow: it takes what is said and answers nothing.
    redis.pause();
    fails(&store, Fault::Deadline).await;
    assert_eq!(store.add(entry("a", 60), now()).await, Err(Unavailable(Fault::Deadline)));
    redis.resume();
    answers(&store).await;
}

#[tokio::test] // R01
async fn one_that_is_full_or_a_replica_is_unavailable_until_it_is_not() {
    let Some(program) = redis_program() else { return };
    let redis = Redis::start(&program);
    let store = store(&redis);
    answers(&store).await;
    redis.fill();
    fails(&store, Fault::OutOfMemory).await;
    assert_eq!(patient(&redis).add(entry("a", 60), now()).await, Err(Unavailable(Fault::OutOfMemory)));
    redis.drain();
    answers(&store).await;

    let nowhere = deserted_address().port().to_string();
    assert_eq!(redis.command(&["REPLICAOF", "127.0.0.1", &nowhere]), "+OK");
    fails(&store, Fault::ReadOnly).await;
    assert_eq!(redis.command(&["REPLICAOF", "NO", "ONE"]), "+OK");
    answers(&store).await;
}

#[tokio::test] // R01
async fn one_that_is_loading_is_unavailable_until_it_has_loaded() {
    let Some(program) = redis_program() else { return };
    let more = "enable-debug-command local\nrdbcompression no\nloading-process-events-interval-bytes 1024";
    let redis = Redis::start_configured(&program, "~* &* +@all -@admin -@dangerous", more);
    let store = store(&redis);
    answers(&store).await;
    // Each key takes 5 ms to load, and between two of them it answers.
    assert_eq!(redis.command(&["DEBUG", "POPULATE", "400", "k", "2048"]), "+OK");
    assert_eq!(redis.command(&["CONFIG", "SET", "key-load-delay", "5000"]), "+OK");
    let loaded = std::thread::spawn(move || (redis.command(&["DEBUG", "RELOAD"]), redis));
    let loading = async {
        let mut beat = interval(Duration::from_millis(2));
        while ask(&store).await != Err(Fault::Loading) {
            beat.tick().await;
        }
    };
    timeout(DEADLINE, loading).await.expect("it says that it is loading");
    let (answer, _redis) = tokio::task::spawn_blocking(|| loaded.join().unwrap()).await.unwrap();
    assert_eq!(answer, "+OK");
    answers(&store).await;
}

#[tokio::test] // R01
async fn a_node_of_a_cluster_is_unavailable() {
    let Some(program) = redis_program() else { return };
    let redis = Redis::start_configured(&program, "~* &* +@all", "cluster-enabled yes");
    fails(&store(&redis), Fault::Cluster).await;
}

#[tokio::test] // R01
async fn a_user_who_is_not_known_or_may_not_is_told_from_one_who_may() {
    let Some(program) = redis_program() else { return };
    let redis = Redis::start(&program);
    for account in [
        Account { user: Some(USER.into()), password: Some(b"wrong".to_vec()), database: 0 },
        Account { user: None, password: Some(PASSWORD.into()), database: 0 },
        Account::default(),
    ] {
        let settings = Settings { account, ..settings(tcp(redis.address())) };
        fails(&Store::redis(&settings).unwrap(), Fault::Credentials).await;
    }
    for rules in ["~* &* -@all", "~other:* &* +@all", "~* &* +@read"] {
        let redis = Redis::start_with(&program, rules);
        fails(&store(&redis), Fault::Forbidden).await;
        // The rights are given while we run.
        assert_eq!(redis.command(&["ACL", "SETUSER", USER, "~*", "+@all"]), "+OK");
        answers(&store(&redis)).await;
    }
    // What the documents say is enough.
    let redis = Redis::start_with(
        &program,
        "resetchannels ~portcullis:* &portcullis:* -@all +ping +select +get +set +hscan +subscribe +publish +eval +hset +hdel +hlen +hexists +zadd +zrem +zrangebyscore +incr +exists",
    );
    let store = patient(&redis);
    answers(&store).await;
    let mut events = store.subscribe();
    assert_eq!(heard(&mut events, None).await, Event::Resync);
    assert_eq!(store.seed(1, &[entry("a", 60)], now()).await, Ok(1));
    assert_eq!(store.add(entry("b", 60), now()).await, Ok(Some(2)));
    assert_eq!(store.load_all(now()).await.unwrap().entries.len(), 2);
}

#[tokio::test] // R01
async fn one_whose_certificate_is_not_to_be_believed_is_never_told_the_password() {
    let Some(program) = redis_program() else { return };
    let (redis, other) = (Redis::start(&program), Redis::start(&program));
    let with = |roots| Settings { roots: Some(roots), ..settings(tcp(redis.tls_address())) };
    fails(&Store::redis(&with(Roots::File(other.ca()))).unwrap(), Fault::Tls).await;
    fails(&Store::redis(&with(Roots::System)).unwrap(), Fault::Tls).await;
    answers(&Store::redis(&with(Roots::File(redis.ca()))).unwrap()).await;

    let missing = Store::redis(&with(Roots::File("/nowhere/ca.pem".into()))).err().unwrap();
    assert_eq!(missing.to_string(), "/nowhere/ca.pem cannot be read: entity not found");
    let socket = redis.ca().with_file_name("key.pem");
    let none = Store::redis(&with(Roots::File(socket.clone()))).err().unwrap();
    assert_eq!(none.to_string(), format!("{} does not hold certificates in PEM", socket.display()));
}

/// A server that says this to whatever it is told, after so many honest answers, and counts what it got rid of.
async fn liar(honest: usize, says: impl Fn() -> Vec<u8> + Send + Sync + 'static) -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let address = listener.local_addr().unwrap();
    let most = Arc::new(AtomicU64::new(0));
    let (told, says) = (Arc::clone(&most), Arc::new(says));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (told, says) = (Arc::clone(&told), Arc::clone(&says));
            tokio::spawn(async move {
                let mut heard = [0; 4_096];
                // Its greeting: AUTH and PING.
                if stream.read(&mut heard).await.is_err()
                    || stream.write_all(b"+OK\r\n".repeat(honest).as_slice()).await.is_err()
                {
                    return;
                }
                if honest > 0 && stream.read(&mut heard).await.is_ok_and(|length| length == 0) {
                    return;
                }
                let mut said = 0;
                loop {
                    let bytes = says();
                    if bytes.is_empty() {
                        std::future::pending::<()>().await;
                    }
                    let Ok(length) = stream.write(&bytes).await else { return };
                    said += u64::try_from(length).unwrap();
                    told.fetch_max(said, Ordering::Relaxed);
                }
            });
        }
    });
    (address, most)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)] // R01
async fn one_that_lies_stalls_or_bloats_takes_neither_time_nor_memory() {
    let endless = |text: &'static str| move || text.as_bytes().repeat(4_096);
    let gigabyte = || {
        let begun = AtomicU64::new(0);
        move || match begun.fetch_add(1, Ordering::Relaxed) % 2 {
            0 => b"$1000000000\r\n".to_vec(),
            _ => vec![b'x'; 1 << 20],
        }
    };
    // The greeting has two replies, so a liar lies from the first word on or after these.
    for honest in [0, 2] {
        let liars = [
            (liar(honest, gigabyte()).await, Fault::Oversize),
            (liar(honest, endless("*1000000000\r\n")).await, Fault::Oversize),
            (liar(honest, endless("HTTP/1.1 400 Bad Request\r\n")).await, Fault::Garbled),
            (liar(honest, endless("xxxxxxxxxxxxxxxx")).await, Fault::Garbled),
            (liar(honest, endless("+OK")).await, Fault::Garbled),
            (liar(honest, endless("+OK\r\n")).await, Fault::Garbled),
            (liar(honest, endless(":1\r\n")).await, Fault::Garbled),
            // Half open: it takes everything and answers nothing.
            (liar(honest, Vec::new).await, Fault::Deadline),
        ];
        for ((address, most), fault) in liars {
            let store = store_at(address);
            if fault == Fault::Garbled && honest == 2 {
                // `+OK` is what SET is answered with: the first to ask is told the lie, the connection ends all the same.
                lies(&store).await;
            } else {
                fails(&store, fault).await;
            }
            // What the system's buffers take, and no more: nobody reads on.
            let told = most.load(Ordering::Relaxed);
            assert!(told < 64 << 20, "{told} bytes were taken");
        }
    }
}

/// Asks until it fails for being garbled.
async fn lies(store: &Store) {
    let failed = async {
        let mut beat = interval(Duration::from_millis(2));
        while ask(store).await != Err(Fault::Garbled) {
            beat.tick().await;
        }
    };
    timeout(DEADLINE, failed).await.expect("it is found out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)] // R01
async fn a_crowd_before_one_that_stalls_is_refused_in_time_and_served_when_it_goes_on() {
    let Some(program) = redis_program() else { return };
    let redis = Redis::start(&program);
    let store = store(&redis);
    answers(&store).await;
    redis.pause();
    // More than may wait, without the circuit before them.
    let crowd = (0..3_000).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { timeout(DEADLINE, store.epoch()).await.expect("an operation hangs") })
    });
    let mut busy = 0;
    for asked in crowd.collect::<Vec<_>>() {
        let Err(Unavailable(fault)) = asked.await.unwrap() else { panic!("a stalled Redis answered") };
        assert!([Fault::Busy, Fault::Deadline, Fault::Unreachable].contains(&fault), "{fault:?}");
        busy += usize::from(fault == Fault::Busy);
    }
    assert!(busy > 0, "everything was kept");
    redis.resume();
    answers(&store).await;
    let crowd = (0..500).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { ask(&store).await })
    });
    let mut good = 0;
    for asked in crowd.collect::<Vec<_>>() {
        good += usize::from(asked.await.unwrap() == Ok(true));
    }
    assert!(good > 0);
}

#[tokio::test]
async fn what_is_added_on_one_replica_is_heard_on_the_other() {
    let Some(program) = redis_program() else { return };
    let redis = Redis::start(&program);
    let (one, other) = (patient(&redis), patient(&redis));
    answers(&one).await;
    let mut events = other.subscribe();
    assert_eq!(next(&mut events).await, Event::Resync);
    let (a, b) = (entry("a", 60), entry("b\n", 90));
    assert_eq!(one.add(a.clone(), now()).await, Ok(None));
    assert_eq!(heard(&mut events, None).await, Event::Added(None, a.clone()));
    assert_eq!(one.seed(1_800_000_000_000, &[], now()).await, Ok(1_800_000_000_000));
    assert_eq!(heard(&mut events, None).await, Event::Epoch(Some(1_800_000_000_000)));
    assert_eq!(one.add(b.clone(), now()).await, Ok(Some(1_800_000_000_001)));
    assert_eq!(heard(&mut events, Some(1_800_000_000_000)).await, Event::Added(Some(1_800_000_000_001), b.clone()));
    assert_eq!(
        other.load_all(now()).await.unwrap(),
        Revocations { epoch: Some(1_800_000_000_001), entries: vec![a, b] }
    );
}

#[tokio::test] // R01
async fn a_subscriber_is_told_of_what_it_may_have_missed() {
    let Some(program) = redis_program() else { return };
    let mut redis = Redis::start(&program);
    let store = patient(&redis);
    answers(&store).await;
    let mut events = store.subscribe();
    assert_eq!(next(&mut events).await, Event::Resync);
    assert_eq!(store.seed(5, &[entry("a", 60)], now()).await, Ok(5));
    assert_eq!(heard(&mut events, None).await, Event::Epoch(Some(5)));

    // Emptied without a word: the epoch is gone.
    assert_eq!(redis.command(&["FLUSHALL"]), "+OK");
    assert_eq!(heard(&mut events, Some(5)).await, Event::Epoch(None));
    assert_eq!(store.seed(6, &[entry("a", 60)], now()).await, Ok(6));
    assert_eq!(heard(&mut events, None).await, Event::Epoch(Some(6)));

    // Written by another, and nothing that we would write: everything is to be loaded.
    redis.command(&["PUBLISH", "portcullis:revocations:added", "what"]);
    assert_eq!(heard(&mut events, Some(6)).await, Event::Resync);

    // Gone, and back with nothing.
    redis.kill();
    assert_eq!(heard(&mut events, Some(6)).await, Event::Lost);
    redis.restart();
    let mut event = heard(&mut events, Some(6)).await;
    while event == Event::Lost {
        event = next(&mut events).await;
    }
    assert_eq!(event, Event::Resync);
    assert_eq!(next(&mut events).await, Event::Epoch(None));

    // Silent: it is not taken for one that has nothing to say.
    redis.pause();
    assert_eq!(heard(&mut events, None).await, Event::Lost);
    redis.resume();
    assert_eq!(heard(&mut events, None).await, Event::Resync);
}

#[tokio::test]
async fn many_revocations_are_loaded_in_full_and_those_long_expired_are_dropped() {
    let Some(program) = redis_program() else { return };
    let redis = Redis::start(&program);
    let store = patient(&redis);
    answers(&store).await;
    let at = now();
    let old = Entry { expires: at.plus(Duration::from_secs(1)), ..entry("old", 0) };
    let entries: Vec<_> = (0..5_000).map(|at| entry(&format!("{at:05}"), 7_200)).chain([old]).collect();
    assert_eq!(store.seed(9, &entries, at).await, Ok(9));
    let loaded = store.load_all(at).await.unwrap();
    assert_eq!(loaded.entries.len(), 5_001);
    assert_eq!(loaded.entries[..5_000], entries[..5_000]);
    // An hour after they expired, and not before.
    for (secs, left) in [(3_600, "5002"), (3_602, "5002")] {
        let key = format!("at {secs}");
        store.add(entry(&key, 7_200), at.plus(Duration::from_secs(secs))).await.unwrap();
        assert_eq!(redis.command(&["HLEN", "portcullis:revocations"]), format!(":{left}"));
        assert_eq!(redis.command(&["ZCARD", "portcullis:revocations:expiry"]), format!(":{left}"));
    }
}

#[tokio::test] // R01
async fn what_others_wrote_into_the_keys_of_revocations_is_refused_and_not_skipped() {
    let Some(program) = redis_program() else { return };
    let redis = Redis::start(&program);
    let store = patient(&redis);
    answers(&store).await;
    store.seed(1, &[entry("a", 60)], now()).await.unwrap();
    redis.command(&["HSET", "portcullis:revocations", "b", "mine"]);
    assert_eq!(store.load_all(now()).await, Err(Unavailable(Fault::Garbled)));
    redis.command(&["HDEL", "portcullis:revocations", "b"]);
    redis.command(&["SET", "portcullis:revocations:epoch", "many"]);
    assert_eq!(store.load_all(now()).await, Err(Unavailable(Fault::Garbled)));
    redis.command(&["DEL", "portcullis:revocations:epoch", "portcullis:revocations"]);
    redis.command(&["SET", "portcullis:revocations", "mine"]);
    assert_eq!(store.load_all(now()).await, Err(Unavailable(Fault::Refused)));
    assert_eq!(store.add(entry("a", 60), now()).await, Err(Unavailable(Fault::Refused)));
}

/// What is done to a store.
#[derive(Clone, Debug)]
enum Done {
    FirstSeen(u8, bool),
    Add(u8, u8, u64),
    Seed(u64, Vec<(u8, u64)>),
    Load,
    Epoch,
    Later(u64),
}

fn done() -> impl Strategy<Value = Done> {
    prop_oneof![
        4 => (0_u8..6, prop::bool::weighted(0.9)).prop_map(|(key, lives)| Done::FirstSeen(key, lives)),
        4 => (0_u8..6, any::<u8>(), 0_u64..9_000).prop_map(|(key, value, secs)| Done::Add(key, value, secs)),
        1 => (0_u64..40, prop::collection::vec((0_u8..6, 0_u64..9_000), 0..4)).prop_map(|(epoch, all)| Done::Seed(epoch, all)),
        2 => Just(Done::Load),
        1 => Just(Done::Epoch),
        1 => (0_u64..3_000).prop_map(Done::Later),
    ]
}

/// What it answers, as text.
async fn outcome(store: &Store, done: &Done, at: Timestamp) -> String {
    let entry = |key: u8, value: u8, secs| Entry {
        key: [key].into(),
        value: [value].into(),
        expires: at.plus(Duration::from_secs(secs)),
    };
    match done {
        Done::FirstSeen(key, lives) => {
            let until = if *lives { at.plus(Duration::from_secs(1_000_000)) } else { at };
            format!("{:?}", store.first_seen(&[*key; 32], until, at).await)
        }
        Done::Add(key, value, secs) => format!("{:?}", store.add(entry(*key, *value, *secs), at).await),
        Done::Seed(epoch, all) => {
            let all: Vec<_> = all.iter().map(|(key, secs)| entry(*key, 0, *secs)).collect();
            format!("{:?}", store.seed(*epoch, &all, at).await)
        }
        Done::Load => format!("{:?}", store.load_all(at).await),
        Done::Epoch => format!("{:?}", store.epoch().await),
        Done::Later(_) => String::new(),
    }
}

#[test]
fn memory_and_redis_agree_whatever_is_done() {
    let Some(program) = redis_program() else { return };
    let redis = Redis::start(&program);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config { cases: 64, failure_persistence: None, ..Config::default() });
    let prefixes = AtomicU64::new(0);
    runner
        .run(&prop::collection::vec(done(), 1..40), |sequence| {
            runtime.block_on(async {
                let prefix = format!("{}:", prefixes.fetch_add(1, Ordering::Relaxed));
                // A machine that is busy is not what this is about.
                let patient = Settings { prefix: prefix.into(), deadline: DEADLINE, ..settings(tcp(redis.address())) };
                let (shared, own) = (Store::redis(&patient).unwrap(), Store::memory());
                let mut at = now();
                for done in &sequence {
                    if let Done::Later(secs) = done {
                        at = at.plus(Duration::from_secs(*secs));
                    }
                    prop_assert_eq!(outcome(&shared, done, at).await, outcome(&own, done, at).await, "{:?}", done);
                }
                Ok(())
            })
        })
        .unwrap();
}

#[tokio::test] // R01
async fn a_store_that_is_down_takes_no_replica_out_and_its_password_is_told_to_nobody() {
    let Some(program) = redis_program() else { return };
    let mut redis = Redis::start(&program);
    let dir = TempDir::new();
    let policy = |store: &str| dir.file("portcullis.yaml", format!("store: {store}\nroutes: {{/a: public}}\n"));
    let with = |url: &str| format!("{{url: '{url}', username: {USER}, password: env:STORE, deadline: 20ms}}");
    let serve = |policy: &Path, password: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--cores", "1", "-c"]).arg(policy);
        Process::start(command.env("PORTCULLIS_LOG", "trace").env("STORE", password))
    };

    redis.kill();
    let mut down = serve(&policy(&with(&redis.url())), PASSWORD);
    down.line_with("\"fault\":\"unreachable\"").await;
    let line: serde_json::Value = serde_json::from_str(&down.line_with("health and metrics").await).unwrap();
    let admin = line["address"].as_str().unwrap().parse().unwrap();
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    assert_eq!(crate::support::ask(admin, get("/readyz")).await.status, 200);
    redis.restart();
    down.line_with("connected to the store").await;
    assert_eq!(crate::support::ask(admin, get("/readyz")).await.status, 200);

    let wrong = "not-the-password-77";
    let mut refused = serve(&policy(&with(&redis.url())), wrong);
    refused.line_with("\"fault\":\"credentials\"").await;
    let (echo, _) = liar(0, move || format!("-ERR {PASSWORD} {wrong}\r\n").into_bytes()).await;
    let mut echoed = serve(&policy(&with(&format!("redis://{echo}"))), wrong);
    echoed.line_with("\"fault\":\"refused\"").await;
    let mut secure = serve(&policy(&with(&redis.tls_url())), wrong);
    secure.line_with("\"fault\":\"tls\"").await;
    let ca = format!("{{url: '{}', password: env:STORE, ca: file:none.pem}}", redis.tls_url());
    let mut missing = serve(&policy(&ca), wrong);
    let line = missing.line_with("cannot be connected to").await;
    assert!(
        line.contains("portcullis.yaml:1:14: the store cannot be connected to: ") && line.contains("none.pem"),
        "{line}"
    );
    assert!(!missing.ended().await.success());
    for process in [&down, &refused, &echoed, &secure, &missing] {
        let log = process.log();
        assert!(!log.contains(PASSWORD) && !log.contains(wrong), "{log}");
    }

    // Neither where it stands in the wrong place.
    for store in [
        format!("redis://{USER}:{PASSWORD}@localhost"),
        format!("{{url: 'redis://{PASSWORD}@localhost'}}"),
        format!("{{url: 'redis://localhost', username: a, password: '{PASSWORD}'}}"),
    ] {
        for format in ["text", "json"] {
            let mut check = Command::new(env!("CARGO_BIN_EXE_portcullis"));
            let said = check.args(["check", "--format", format, "-c"]).arg(policy(&store)).output().await.unwrap();
            let text = String::from_utf8(said.stdout).unwrap() + &String::from_utf8(said.stderr).unwrap();
            assert!(!said.status.success() && text.contains("secret_in_file"), "{text}");
        }
    }
}

#[tokio::test] // R01
async fn a_connection_that_is_half_open_is_given_up_for_another() {
    let Some(program) = redis_program() else { return };
    let redis = Redis::start(&program);
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let store = store_at(listener.local_addr().unwrap());
    let to = redis.address();
    tokio::spawn(async move {
        // The first is greeted, and then nothing comes of it any more; it is never closed.
        let (mut silent, _) = listener.accept().await.unwrap();
        let mut heard = [0; 4_096];
        assert!(silent.read(&mut heard).await.unwrap() > 0);
        silent.write_all(b"+OK\r\n+PONG\r\n").await.unwrap();
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut redis = tokio::net::TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut redis).await;
            });
        }
        drop(silent);
    });
    fails(&store, Fault::Deadline).await;
    answers(&store).await;
}
