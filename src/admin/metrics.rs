//! Everything counted, as OpenMetrics text. Labels come from the policy and from closed lists only.

mod store;

use std::fmt::{self, Debug};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::Sources;
use crate::authz::introspection::{Answers, Counted};
use crate::authz::issuer::Issuer;
use crate::clock::now;
use crate::feed::config::ReloadStatus;
use crate::feed::folder::FolderStatus;
use crate::feed::revocation::RevocationStatus;
use crate::feed::status::Statuses;
use crate::observe::metrics::{BOUNDS, Totals};
use store::StoreFacts;

/// The text of one scrape.
pub fn text(sources: &Sources) -> Result<String, fmt::Error> {
    let snapshot = sources.live.snapshot();
    let policy = snapshot.as_ref().map(|snapshot| snapshot.policy().id);
    let feeds = sources.feeds.borrow().clone();
    let issuers = snapshot.iter().flat_map(|snapshot| snapshot.issuers()).map(|issuer| IssuerFacts::of(issuer, &feeds));
    let scrape = Scrape {
        totals: sources.metrics.totals(policy),
        audit_dropped: sources.audit.dropped(),
        version: snapshot.as_ref().map_or(0, |snapshot| snapshot.version()),
        policy: policy.map(|id| id.to_string()).unwrap_or_default(),
        issuers: issuers.collect(),
        folder: sources.folder.as_ref().map(|folder| folder.status()).unwrap_or_default(),
        revocation: match &sources.revoker {
            Some(revoker) => *revoker.status().borrow(),
            None => RevocationStatus { known: true, ..RevocationStatus::default() },
        },
        reloads: *sources.reloads.borrow(),
        renewed: *sources.renewals.borrow(),
        store: StoreFacts::of(&sources.store),
    };
    let mut registry = Registry::with_prefix("portcullis");
    registry.register_collector(Box::new(scrape));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Scrape {
    totals: Totals,
    audit_dropped: u64,
    version: u64,
    policy: String,
    issuers: Vec<IssuerFacts>,
    folder: FolderStatus,
    revocation: RevocationStatus,
    reloads: ReloadStatus,
    renewed: bool,
    store: StoreFacts,
}

#[derive(Debug)]
struct IssuerFacts {
    name: String,
    keys: u64,
    refused: u64,
    /// Seconds since the keys were fetched with success; `None` for keys from a file.
    age: Option<f64>,
    failed: bool,
    /// What came of asking about opaque tokens, where the issuer is asked.
    asked: Option<Counted>,
    from_disk: bool,
    suspended: bool,
}

impl IssuerFacts {
    fn of(issuer: &Issuer, feeds: &Statuses) -> Self {
        let state = issuer.state();
        let name = issuer.policy().name.to_string();
        Self {
            keys: count(state.keys.len()),
            refused: feeds.get(&*name).map_or(0, |feed| count(feed.refused.len())),
            age: state.fetched.map(|at| now().since(at).as_secs_f64()),
            failed: issuer.policy().fed && (state.failed || state.keys.is_empty()),
            asked: issuer.answers().map(Answers::counted),
            from_disk: state.from_disk,
            suspended: issuer.suspended(),
            name,
        }
    }
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.checks(&mut encoder)?;
        self.latency(&mut encoder)?;
        self.keys(&mut encoder)?;
        self.introspections(&mut encoder)?;
        self.revocation(&mut encoder)?;
        self.store.encode(&mut encoder)?;
        self.process(&mut encoder)
    }
}

impl Scrape {
    fn checks(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut checks = encoder.encode_descriptor("checks", "Checks answered", None, MetricType::Counter)?;
        let allowed = [("verdict", "allow"), ("reason", "")];
        checks.encode_family(&allowed)?.encode_counter::<NoLabelSet, _, u64>(&self.totals.allowed, None)?;
        for (reason, denied) in &self.totals.denied {
            let labels = [("verdict", "deny"), ("reason", reason.code())];
            checks.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(denied, None)?;
        }
        let mut routes = encoder.encode_descriptor("route_checks", "Checks by route", None, MetricType::Counter)?;
        for (route, [allowed, denied]) in &self.totals.routes {
            for (verdict, count) in [("allow", allowed), ("deny", denied)] {
                let labels = [("route", &**route), ("verdict", verdict)];
                routes.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(count, None)?;
            }
        }
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "a sum of seconds and bucket bounds need no 53 bits")]
    fn latency(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Time from a check's arrival to its decision";
        let mut latency = encoder.encode_descriptor("check_duration_seconds", help, None, MetricType::Histogram)?;
        let answered = self.totals.denied.values().fold(self.totals.allowed, |sum, count| sum.saturating_add(*count));
        let bounded = self.totals.buckets.iter().fold(0, |sum: u64, count| sum.saturating_add(*count));
        let bounds = BOUNDS.iter().map(|micros| *micros as f64 / 1e6);
        let mut buckets: Vec<(f64, u64)> = bounds.zip(self.totals.buckets).collect();
        buckets.push((f64::INFINITY, answered.saturating_sub(bounded)));
        latency.encode_histogram::<NoLabelSet>(self.totals.elapsed_micros as f64 / 1e6, answered, &buckets, None)
    }

    fn keys(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut keys = encoder.encode_descriptor("issuer_keys", "Usable keys", None, MetricType::Gauge)?;
        for issuer in &self.issuers {
            keys.encode_family(&[("issuer", &*issuer.name)])?.encode_gauge(&issuer.keys)?;
        }
        let mut refused =
            encoder.encode_descriptor("issuer_keys_refused", "Keys that cannot be used", None, MetricType::Gauge)?;
        for issuer in &self.issuers {
            refused.encode_family(&[("issuer", &*issuer.name)])?.encode_gauge(&issuer.refused)?;
        }
        let help = "Time since the keys were last fetched with success";
        let mut age = encoder.encode_descriptor("issuer_key_age_seconds", help, None, MetricType::Gauge)?;
        for issuer in &self.issuers {
            if let Some(seconds) = issuer.age {
                age.encode_family(&[("issuer", &*issuer.name)])?.encode_gauge(&seconds)?;
            }
        }
        let help = "1 while the keys cannot be fetched";
        let mut degraded = encoder.encode_descriptor("issuer_degraded", help, None, MetricType::Gauge)?;
        for issuer in &self.issuers {
            degraded.encode_family(&[("issuer", &*issuer.name)])?.encode_gauge(&u64::from(issuer.failed))?;
        }
        let help = "1 while the keys in use are those that an earlier run kept on disk";
        let mut from_disk = encoder.encode_descriptor("issuer_keys_from_disk", help, None, MetricType::Gauge)?;
        for issuer in &self.issuers {
            from_disk.encode_family(&[("issuer", &*issuer.name)])?.encode_gauge(&u64::from(issuer.from_disk))?;
        }
        let help = "1 while the operator has suspended the issuer";
        let mut suspended = encoder.encode_descriptor("issuer_suspended", help, None, MetricType::Gauge)?;
        for issuer in &self.issuers {
            suspended.encode_family(&[("issuer", &*issuer.name)])?.encode_gauge(&u64::from(issuer.suspended))?;
        }
        let help = "Files of the key cache that were not believed, or could not be written";
        let mut failures = encoder.encode_descriptor("key_cache_failures", help, None, MetricType::Counter)?;
        for (operation, count) in [("read", self.folder.unread), ("write", self.folder.unwritten)] {
            failures.encode_family(&[("operation", operation)])?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        Ok(())
    }

    fn introspections(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Asks about opaque tokens";
        let mut asks = encoder.encode_descriptor("introspections", help, None, MetricType::Counter)?;
        let asked = || self.issuers.iter().filter_map(|issuer| Some((&*issuer.name, issuer.asked?)));
        for (name, Counted { active, inactive, failures, .. }) in asked() {
            for (outcome, count) in [("active", active), ("inactive", inactive), ("failed", failures)] {
                let labels = [("issuer", name), ("outcome", outcome)];
                asks.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }
        let help = "Opaque tokens whose answer was remembered";
        let mut hits = encoder.encode_descriptor("introspection_hits", help, None, MetricType::Counter)?;
        for (name, Counted { hits: count, .. }) in asked() {
            hits.encode_family(&[("issuer", name)])?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        Ok(())
    }

    fn revocation(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let status = &self.revocation;
        let help = "1 while it is known what is revoked";
        encoder
            .encode_descriptor("revocation_known", help, None, MetricType::Gauge)?
            .encode_gauge(&u64::from(status.known))?;
        encoder
            .encode_descriptor("revocations", "What is revoked through the store", None, MetricType::Gauge)?
            .encode_gauge(&count(status.entries))?;
        encoder
            .encode_descriptor("revocations_unreadable", "Entries that cannot be read", None, MetricType::Gauge)?
            .encode_gauge(&status.unreadable)?;
        let help = "How often the store was told again what it had forgotten";
        encoder
            .encode_descriptor("revocation_seeds", help, None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(&status.seeds, None)
    }

    fn process(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Audit lines that were dropped because too many waited";
        encoder
            .encode_descriptor("audit_dropped", help, None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(&self.audit_dropped, None)?;
        let mut reloads = encoder.encode_descriptor("reloads", "Loads of the policy", None, MetricType::Counter)?;
        for (outcome, count) in [("good", self.reloads.good), ("bad", self.reloads.bad)] {
            reloads.encode_family(&[("outcome", outcome)])?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        let help = "1 while the policy files on disk are the ones in force";
        encoder
            .encode_descriptor("config_last_reload_success", help, None, MetricType::Gauge)?
            .encode_gauge(&u64::from(!self.reloads.failed))?;
        let help = "1 while the listeners serve the certificates on disk";
        encoder
            .encode_descriptor("tls_last_reload_success", help, None, MetricType::Gauge)?
            .encode_gauge(&u64::from(self.renewed))?;
        encoder
            .encode_descriptor("snapshot_version", "Publications since the start", None, MetricType::Gauge)?
            .encode_gauge(&self.version)?;
        encoder
            .encode_descriptor("policy", "The policy in force", None, MetricType::Info)?
            .encode_info(&[("id", &*self.policy)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bucket_of_a_histogram_is_infinite_and_holds_everything() {
        let totals = Totals { allowed: 3, elapsed_micros: 900_000, ..Totals::default() };
        let scrape = Scrape {
            totals,
            audit_dropped: 0,
            version: 0,
            policy: String::new(),
            issuers: Vec::new(),
            folder: FolderStatus::default(),
            revocation: RevocationStatus::default(),
            reloads: ReloadStatus::default(),
            renewed: true,
            store: StoreFacts::default(),
        };
        let mut registry = Registry::with_prefix("portcullis");
        registry.register_collector(Box::new(scrape));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("portcullis_check_duration_seconds_bucket{le=\"+Inf\"} 3\n"), "{text}");
    }
}
