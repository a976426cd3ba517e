//! What is counted of the store.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::store::{BOUNDS, Fault, Operation, Store, Totals};

/// A store at the time of a scrape.
#[derive(Debug, Default)]
pub(super) struct StoreFacts {
    totals: Totals,
    circuit_is_open: bool,
}

impl StoreFacts {
    pub fn of(store: &Store) -> Self {
        Self { totals: store.totals(), circuit_is_open: store.circuit_is_open() }
    }

    pub fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        self.operations(encoder)?;
        self.latency(encoder)?;
        encoder
            .encode_descriptor(
                "store_circuit_open",
                "1 while most operations are refused at once",
                None,
                MetricType::Gauge,
            )?
            .encode_gauge(&u64::from(self.circuit_is_open))
    }

    /// A fault that has not been seen yet has no line: there are many.
    fn operations(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Operations on the store";
        let mut operations = encoder.encode_descriptor("store_operations", help, None, MetricType::Counter)?;
        for (operation, (good, failed)) in Operation::ALL.iter().zip(self.totals.good.iter().zip(&self.totals.failed)) {
            let faults = Fault::ALL.iter().map(|fault| fault.code()).zip(failed).filter(|(_, count)| **count > 0);
            for (outcome, count) in std::iter::once(("good", good)).chain(faults) {
                let labels = [("operation", operation.code()), ("outcome", outcome)];
                operations.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(count, None)?;
            }
        }
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "a sum of seconds and bucket bounds need no 53 bits")]
    fn latency(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Time that operations on the store took";
        let mut latency =
            encoder.encode_descriptor("store_operation_duration_seconds", help, None, MetricType::Histogram)?;
        let ended = self.totals.good.iter().chain(self.totals.failed.iter().flatten());
        let ended = ended.fold(0, |sum: u64, count| sum.saturating_add(*count));
        let bounded = self.totals.buckets.iter().fold(0, |sum: u64, count| sum.saturating_add(*count));
        let bounds = BOUNDS.iter().map(|micros| *micros as f64 / 1e6);
        let mut buckets: Vec<(f64, u64)> = bounds.zip(self.totals.buckets).collect();
        buckets.push((f64::INFINITY, ended.saturating_sub(bounded)));
        latency.encode_histogram::<NoLabelSet>(self.totals.elapsed_micros as f64 / 1e6, ended, &buckets, None)
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::collector::Collector;
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::clock::now;

    impl Collector for StoreFacts {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
            Self::encode(self, &mut encoder)
        }
    }

    #[tokio::test]
    async fn operations_are_told_by_what_they_came_to() {
        let store = Store::memory();
        store.epoch().await.unwrap();
        store.seed(u64::MAX, &[], now()).await.unwrap_err();
        let mut registry = Registry::with_prefix("portcullis");
        registry.register_collector(Box::new(StoreFacts::of(&store)));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "portcullis_store_operations_total{operation=\"epoch\",outcome=\"good\"} 1\n",
            "portcullis_store_operations_total{operation=\"seed\",outcome=\"good\"} 0\n",
            "portcullis_store_operations_total{operation=\"seed\",outcome=\"oversize\"} 1\n",
            "portcullis_store_operation_duration_seconds_count 2\n",
            "portcullis_store_operation_duration_seconds_bucket{le=\"+Inf\"} 2\n",
            "portcullis_store_circuit_open 0\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }
}
