//! `side_by_side PROGRAMS POLICY [--rounds N] [--seconds N] [--only TEXT]`: portcullis and the ceiling under the same
//! checks, turn by turn, in one run. Both servers have a core of their own, this load another.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis::authz::algorithm::Algorithm;
use portcullis::authz::keys::{Found, KeySet, Origin};
use portcullis::dev::mint::SigningKey;
use portcullis_bench::load::{Failure, Measured, Shape, Verdict, each, first, measure};
use portcullis_bench::server::{Server, cpu_of, free_address};
use portcullis_bench::traffic::{Ask, anonymous, key_set, signed};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Many checks at once: as much as the server can do.
const BUSY: Shape = Shape { connections: 8, streams: 8 };
/// A few checks at once: how long one takes.
const CALM: Shape = Shape { connections: 2, streams: 2 };
const FEW: usize = 5_000;
const MANY: usize = 60_000;

type Asks = Arc<[Ask]>;

struct Bench {
    programs: PathBuf,
    policy: String,
    folder: PathBuf,
    rounds: usize,
    time: Duration,
    only: Option<String>,
}

/// What must hold, given what the ceiling did.
#[derive(Clone, Copy)]
enum Bar {
    /// So much of the ceiling's rate.
    Share(f64),
    /// 0.9 of what is left where a signature costs so much beside the ceiling's own work.
    Signature(Duration),
    /// So much of the ceiling's p99, at most.
    P99(f64),
}

struct Scenario<'a> {
    name: &'a str,
    shape: Shape,
    asks: &'a Asks,
    expected: Verdict,
    bar: Option<Bar>,
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let mut positional = || arguments.next().ok_or("usage: side_by_side PROGRAMS POLICY [--rounds N] [--seconds N]");
    let (programs, policy) = (positional()?, positional()?);
    let folder = std::env::temp_dir().join(format!("portcullis-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let mut bench = Bench {
        programs: programs.into(),
        policy: std::fs::read_to_string(policy)?,
        folder,
        rounds: 5,
        time: Duration::from_secs(3),
        only: None,
    };
    while let (Some(option), Some(value)) = (arguments.next(), arguments.next()) {
        match &*option {
            "--rounds" => bench.rounds = value.parse()?,
            "--seconds" => bench.time = Duration::from_secs_f64(value.parse()?),
            "--only" => bench.only = Some(value),
            _ => return Err(format!("no such option: {option}").into()),
        }
    }
    std::fs::write(bench.folder.join("keys.json"), key_set())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(bench.run());
    if ended.is_ok() {
        std::fs::remove_dir_all(&bench.folder)?;
    } else {
        eprintln!("what the servers said is in {}", bench.folder.display());
    }
    ended
}

impl Bench {
    async fn run(&self) -> Result<(), Failure> {
        let begun = Instant::now();
        eprintln!("minting {FEW} RS256, {FEW} ES256 and {MANY} more RS256 tokens");
        let (rs256, es256, many): (Asks, Asks, Asks) = (
            signed(Algorithm::Rs256, FEW).into(),
            signed(Algorithm::Es256, FEW).into(),
            if self.wants("60,000") { signed(Algorithm::Rs256, MANY).into() } else { Arc::new([]) },
        );
        let same: Asks = Arc::new([rs256[0].clone()]);
        let none: Asks = Arc::new([anonymous()]);
        eprintln!("minted in {:?}", begun.elapsed());
        let signature = (signature_cost(Algorithm::Rs256)?, signature_cost(Algorithm::Es256)?);
        println!("{} rounds of {:?} each, turn by turn; medians.", self.rounds, self.time);
        println!("One RS256 signature alone: {:.1?}; one ES256 signature: {:.1?}.\n", signature.0, signature.1);
        println!(
            "| scenario | ceiling, checks/s | portcullis | ratio | CPU a check | ceiling's share of it | bar | | p50 | p99 |"
        );
        println!("|---|---:|---:|---:|---:|---:|---:|---|---:|---:|");
        let scenario = |name, asks, expected, bar| Scenario { name, shape: BUSY, asks, expected, bar: Some(bar) };

        let ceiling = self.ceiling("0", 1)?;
        first(ceiling.address, &none[0], Verdict::Allow).await?;
        let ours = self.portcullis("0", 1, "")?;
        first(ours.address, &none[0], Verdict::Deny).await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let idle = (ceiling.resident(), ours.resident());
        let allow = Verdict::Allow;
        self.pair(&ceiling, &ours, &scenario("the same RS256 token", &same, allow, Bar::Share(0.85))).await?;
        self.pair(&ceiling, &ours, &scenario("5,000 RS256 tokens", &rs256, allow, Bar::Share(0.85))).await?;
        let warm = (ceiling.resident(), ours.resident());
        let calm = Scenario { shape: CALM, ..scenario("5,000 RS256 tokens, 4 streams", &rs256, allow, Bar::P99(1.25)) };
        self.pair(&ceiling, &ours, &calm).await?;
        self.pair(&ceiling, &ours, &scenario("5,000 ES256 tokens", &es256, allow, Bar::Share(0.85))).await?;
        self.pair(&ceiling, &ours, &scenario("deny: no token", &none, Verdict::Deny, Bar::Share(0.85))).await?;
        self.pair(&ceiling, &ours, &scenario("60,000 RS256 tokens", &many, allow, Bar::Share(0.85))).await?;
        let full = (ceiling.resident(), ours.resident());

        if self.wants("uncached") {
            let forgetful = self.portcullis("0", 1, "cache: {tokens: 1KiB}\n")?;
            first(forgetful.address, &none[0], Verdict::Deny).await?;
            self.pair(&ceiling, &forgetful, &scenario("uncached RS256", &rs256, allow, Bar::Signature(signature.0)))
                .await?;
            self.pair(&ceiling, &forgetful, &scenario("uncached ES256", &es256, allow, Bar::Signature(signature.1)))
                .await?;
        }
        if self.wants("routes") {
            let routes: String =
                (0..9_990).map(|n| format!("  GET /bench/v{}/part{n}/{{id}}: role:premium\n", n % 100)).collect();
            let large = self.portcullis_with("0", 1, "", &routes)?;
            first(large.address, &none[0], Verdict::Deny).await?;
            let bar = Bar::Share(1.0 / 1.1);
            self.pair(&ours, &large, &scenario("10,000 routes, beside 10", &same, allow, bar)).await?;
        }
        if self.wants("cores") {
            self.two_cores(&ceiling, &ours, &rs256).await?;
        }
        let dropped = ours.metric("audit_dropped_total");
        drop((ceiling, ours));
        let ready = (self.ready(&none[0], Verdict::Allow).await?, self.ready(&none[0], Verdict::Deny).await?);
        println!("\n| | ceiling | portcullis | bar |\n|---|---:|---:|---:|");
        println!("| memory, idle | {:.1} MiB | {:.1} MiB | 20 MiB |", idle.0, idle.1);
        println!("| memory after 5,000 tokens | {:.1} MiB | {:.1} MiB | 60 MiB |", warm.0, warm.1);
        println!("| memory after 70,000 tokens | {:.1} MiB | {:.1} MiB | |", full.0, full.1);
        println!("| first answer after start | {:.1?} | {:.1?} | 50 ms |", ready.0, ready.1);
        println!("| audit lines dropped | – | {} | |", dropped.as_deref().unwrap_or("not told"));
        eprintln!("{:?} in all", begun.elapsed());
        Ok(())
    }

    fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(&**only) || only.contains(name))
    }

    /// Both servers in turn, and one line of the table.
    async fn pair(&self, one: &Server, other: &Server, scenario: &Scenario<'_>) -> Result<(), Failure> {
        if !self.wants(scenario.name) {
            return Ok(());
        }
        let rounds = self.rounds(one, other, scenario).await?;
        let (one, other) = (median(&rounds, |round| &round.0), median(&rounds, |round| &round.1));
        let ratio = middle(rounds.iter().map(|(one, other)| other.rate / one.rate));
        let cpu = middle(rounds.iter().map(|(one, other)| other.cpu.as_secs_f64() / one.cpu.as_secs_f64()));
        let tail = middle(rounds.iter().map(|(one, other)| other.p99.as_secs_f64() / one.p99.as_secs_f64()));
        // A load that cannot keep up makes rates alike; CPU time shows what the answers cost all the same.
        let share = ratio.min(1.0 / cpu);
        let (bar, met) = match scenario.bar {
            None => (String::new(), true),
            Some(Bar::Share(least)) => (format!("≥ {least:.2}"), share >= least),
            Some(Bar::Signature(cost)) => {
                let least = 0.9 / (1.0 + cost.as_secs_f64() / one.cpu.as_secs_f64());
                (format!("≥ {least:.2}"), share >= least)
            }
            Some(Bar::P99(most)) => (format!("p99 ≤ {most} × (is {tail:.2})"), tail <= most),
        };
        println!(
            "| {} | {:.0} | {:.0} | {ratio:.2} | {:.1?} / {:.1?} | {:.2} | {bar} | {} | {:.0?} / {:.0?} | {:.0?} / {:.0?} |",
            scenario.name,
            one.rate,
            other.rate,
            one.cpu,
            other.cpu,
            1.0 / cpu,
            if met { "met" } else { "**missed**" },
            one.p50,
            other.p50,
            one.p99,
            other.p99,
        );
        Ok(())
    }

    async fn rounds(
        &self,
        one: &Server,
        other: &Server,
        scenario: &Scenario<'_>,
    ) -> Result<Vec<(Measured, Measured)>, Failure> {
        let Scenario { shape, asks, expected, .. } = *scenario;
        // Every token is verified once, and its answer must name its subject.
        if !other.says_yes {
            each(other.address, asks, expected).await?;
        }
        let yes = if one.says_yes { Verdict::Allow } else { expected };
        let mut rounds = Vec::new();
        for round in 0..self.rounds {
            let ask = |server: &Server, expected| {
                let address = server.address;
                let cpu = server.cpu_probe();
                async move { measure(address, shape, asks, expected, self.time, cpu).await }
            };
            // Who goes first takes turns too.
            let pair = if round % 2 == 0 {
                let one = ask(one, yes).await?;
                (one, ask(other, expected).await?)
            } else {
                let other = ask(other, expected).await?;
                (ask(one, yes).await?, other)
            };
            rounds.push(pair);
        }
        Ok(rounds)
    }

    /// What a second core brings, to the ceiling and to portcullis.
    async fn two_cores(&self, ceiling: &Server, ours: &Server, asks: &Asks) -> Result<(), Failure> {
        let wide_ceiling = self.ceiling("0,1", 2)?;
        first(wide_ceiling.address, &asks[0], Verdict::Allow).await?;
        let wide = self.portcullis("0,1", 2, "")?;
        first(wide.address, &asks[0], Verdict::Allow).await?;
        let scenario = |name| Scenario { name, shape: BUSY, asks, expected: Verdict::Allow, bar: None };
        let narrow = self.rounds(ceiling, ours, &scenario("one core")).await?;
        let both = self.rounds(&wide_ceiling, &wide, &scenario("two cores")).await?;
        let gain = |of: fn(&(Measured, Measured)) -> f64| middle(both.iter().map(of)) / middle(narrow.iter().map(of));
        let (theirs, ours) = (gain(|round| round.0.rate), gain(|round| round.1.rate));
        println!(
            "| gain of a second core, shared with the load | × {theirs:.2} | × {ours:.2} | {:.2} | | | ≥ 0.95 | {} | | |",
            ours / theirs,
            if ours / theirs >= 0.95 { "met" } else { "**missed**" },
        );
        Ok(())
    }

    /// From the start of the process to its first answer.
    async fn ready(&self, ask: &Ask, expected: Verdict) -> Result<Duration, Failure> {
        let mut times = Vec::new();
        for _ in 0..self.rounds.max(3) {
            let begun = Instant::now();
            let server = match expected {
                Verdict::Allow => self.ceiling("0", 1)?,
                Verdict::Deny => self.portcullis("0", 1, "")?,
            };
            first(server.address, ask, expected).await?;
            times.push(begun.elapsed().as_secs_f64());
        }
        Ok(Duration::from_secs_f64(middle(times.into_iter())))
    }

    fn ceiling(&self, cores: &str, count: usize) -> Result<Server, Failure> {
        let address = free_address()?;
        let arguments = [address.to_string(), count.to_string()];
        let program = self.programs.join("ceiling");
        Ok(Server::start(cores, &program, &arguments, address, &self.folder.join("ceiling.log"), true)?)
    }

    fn portcullis(&self, cores: &str, count: usize, more: &str) -> Result<Server, Failure> {
        self.portcullis_with(cores, count, more, "")
    }

    /// Audit, metrics and all limits are on, as a policy file that says nothing of them has it.
    fn portcullis_with(&self, cores: &str, count: usize, more: &str, routes: &str) -> Result<Server, Failure> {
        let (address, admin): (SocketAddr, SocketAddr) = (free_address()?, free_address()?);
        let policy = self.folder.join(format!("policy-{}.yaml", address.port()));
        let written = format!(
            "listen: {{grpc: [\"{address}\"], admin: \"{admin}\"}}\naudit: file:audit.jsonl\n{more}{}{routes}",
            self.policy
        );
        std::fs::write(&policy, written)?;
        let arguments = ["serve".as_ref(), "-c".as_ref(), policy.as_os_str(), "--cores".as_ref()];
        let count = count.to_string();
        let arguments: Vec<_> = arguments.into_iter().chain([count.as_ref()]).collect();
        let program = self.programs.join("portcullis");
        let mut server = Server::start(cores, &program, &arguments, address, &self.log(), false)?;
        server.admin = Some(admin);
        Ok(server)
    }

    fn log(&self) -> PathBuf {
        Path::new(&self.folder).join("portcullis.log")
    }
}

/// The CPU time that the verification of one signature takes here and now.
fn signature_cost(algorithm: Algorithm) -> Result<Duration, Failure> {
    const COUNT: u32 = 4_000;
    let keys = KeySet::from_jwks(key_set().as_bytes(), Origin::Local)?.keys;
    let Found::One(key) = keys.find(Some(algorithm.name()), algorithm) else { return Err("no key".into()) };
    let message = [b'x'; 400];
    let signature = SigningKey::shared(algorithm).signature(&message);
    let before = cpu_of("/proc/self/task");
    let verified = (0..COUNT).filter(|_| key.verify(&message, &signature)).count();
    let used = cpu_of("/proc/self/task") - before;
    if verified == 0 { Err("a signature of our own is refused".into()) } else { Ok(used / COUNT) }
}

fn median(rounds: &[(Measured, Measured)], of: impl Fn(&(Measured, Measured)) -> &Measured) -> Measured {
    let over = |value: fn(&Measured) -> f64| middle(rounds.iter().map(|round| value(of(round))));
    Measured {
        rate: over(|measured| measured.rate),
        cpu: Duration::from_secs_f64(over(|measured| measured.cpu.as_secs_f64())),
        p50: Duration::from_secs_f64(over(|measured| measured.p50.as_secs_f64())),
        p99: Duration::from_secs_f64(over(|measured| measured.p99.as_secs_f64())),
    }
}

fn middle(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
