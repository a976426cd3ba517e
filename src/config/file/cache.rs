//! `cache:` of a route: for how long gateways may use its answers again.

use std::time::Duration;

use crate::authz::cache::MOST;
use crate::config::error::{Problem, Spanned};
use crate::config::shape::{Fields, Reader};

/// In whole seconds, one at least; `None` where the route does not say, or where that cannot be read.
pub(super) fn of_route(reader: &mut Reader, fields: &Fields<'_>) -> Option<Spanned<Duration>> {
    let node = fields.get("cache")?;
    let span = reader.duration(node, &fields.name("cache"), MOST)?;
    if span.is_zero() || span.subsec_nanos() != 0 {
        let message = "gateways count in whole seconds how long they may use an answer again, from one on";
        reader.report(Problem::error("out_of_range", node.span, message).cure("cache: 10s; without it, never"));
        return None;
    }
    Some(Spanned::new(span, node.span))
}
