//! `services:` workloads by name.

use super::gateway::spiffe_id;
use crate::authz::services::Workload;
use crate::config::error::{Problem, Spanned, Text};
use crate::config::shape::Reader;
use crate::config::tree::Node;

/// Reads which workloads are a service: SPIFFE IDs, and IDs with `*` for their last segment.
pub(super) fn service(reader: &mut Reader, name: &Text, node: &Node) -> Option<Vec<Spanned<Workload>>> {
    let fits = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if !fits(&name.value) {
        let problem = Problem::error("bad_name", name.span, "the name of a service has other characters");
        reader.report(problem.cure("letters, digits, `-`, `_` and `.`: cart"));
    }
    let texts = reader.texts(node, "a service");
    let count = texts.len();
    let read: Vec<_> = texts.into_iter().filter_map(|text| workload(reader, &text)).collect();
    (!read.is_empty() && read.len() == count).then_some(read)
}

fn workload(reader: &mut Reader, text: &Text) -> Option<Spanned<Workload>> {
    let workload = match text.value.strip_suffix("/*") {
        Some(above) => Workload::Below(spiffe_id(reader, &Spanned::new(above.into(), text.span))?),
        None => Workload::Exact(spiffe_id(reader, text)?),
    };
    Some(Spanned::new(workload, text.span))
}

#[cfg(test)]
mod tests {
    use crate::config::file::parse;

    fn found(services: &str) -> Vec<(u32, &'static str)> {
        let text = format!("services:\n  {services}\nroutes: {{/a: role:x}}\n");
        let (_, problems) = parse("portcullis.yaml", &text);
        problems.as_slice().iter().map(|problem| (problem.span.line, problem.code)).collect()
    }

    #[test] // F05
    fn a_service_is_named_by_whole_ids_or_by_all_but_the_last_segment() {
        for good in ["cart: spiffe://td/ns/shop/sa/cart", "all: [spiffe://td/a, spiffe://td/ns/shop/*]"] {
            assert_eq!(found(good), [], "{good}");
        }
        for bad in [
            "spiffe://TD/a",
            "spiffe://td",
            "spiffe://td/*",
            "spiffe://td/a*",
            "spiffe://td/*/a",
            "cart",
            "https://td/a",
        ] {
            assert_eq!(found(&format!("cart: '{bad}'")), [(2, "bad_spiffe_id")], "{bad}");
        }
        assert_eq!(found("'a b': spiffe://td/a"), [(2, "bad_name")]);
        assert_eq!(found("cart: []"), [(2, "missing_value")]);
    }
}
