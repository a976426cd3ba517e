//! `services:` into workloads by name, and whether `service:` can be asked.

use std::collections::HashMap;
use std::sync::Arc;

use super::Compiler;
use super::rule::Stand;
use crate::authz::identity::WORKLOADS;
use crate::authz::policy::Route;
use crate::authz::rule::Expr;
use crate::authz::services::{Services, Workload};
use crate::config::error::{Problem, Span, nearest};

impl Compiler<'_> {
    /// The services, each with its workloads. No workload is two services in the same way.
    pub(super) fn services(&mut self) -> Vec<(Arc<str>, Vec<Workload>)> {
        let file = self.file;
        let mut seen: HashMap<String, Span> = HashMap::new();
        for workload in file.services.iter().flat_map(|(_, workloads)| workloads) {
            if let Some(first) = seen.insert(format!("{:?}", workload.value), workload.span) {
                let message = "this workload is named twice: it would be two services";
                let problem = Problem::error("service_clash", workload.span, message).related(first, "first here");
                self.report(problem.cure("keep one of the two"));
            }
        }
        let taken = file.issuers.iter().map(|(name, _)| name).find(|name| *name.value == *WORKLOADS);
        if let (Some(name), Some((service, _))) = (taken, file.services.first()) {
            let message = "an issuer cannot be called `services` where workloads have names: they are its subjects";
            let problem = Problem::error("reserved_name", name.span, message).related(service.span, "named here");
            self.report(problem.cure("another name"));
        }
        for service in file.tests.iter().filter_map(|row| row.service.as_ref()) {
            if !file.services.iter().any(|(name, _)| name.value == service.value) {
                let message = format!("there is no service `{}`", service.value);
                self.report(
                    Problem::error("unknown_service", service.span, message).cure("one that `services:` names"),
                );
            }
        }
        let bare = |(name, workloads): &(_, Vec<_>)| (name_of(name), workloads.iter().map(value_of).collect());
        file.services.iter().map(bare).collect()
    }

    /// Whether `service:name` can be asked here.
    pub(super) fn service_word(&mut self, name: &str, span: Span, stand: &Stand<'_>) {
        if stand.only.is_some() {
            let message = format!("`service:{name}` is about a request, and {} is about a token", stand.what);
            self.report(Problem::error("word_not_here", span, message).cure("move it to the route"));
        } else if !self.file.services.iter().any(|(service, _)| *service.value == *name) {
            if !self.file.lost.contains(&"services") {
                let names = self.file.services.iter().map(|(service, _)| &*service.value);
                let cure = match nearest(name, names) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("services: {{{name}: spiffe://example.com/ns/shop/sa/{name}}}"),
                };
                self.report(
                    Problem::error("unknown_service", span, format!("there is no service `{name}`")).cure(cure),
                );
            }
        } else if !self.partial && !self.file.gateways.iter().any(|(_, gateway)| gateway.believes_certificate.is_some())
        {
            let message =
                format!("`service:{name}` needs the caller's certificate, and no gateway is believed about it");
            let cure = "gateways: {mesh: {by: unix, believes: [certificate]}}";
            self.report(Problem::error("certificate_not_believed", span, message).cure(cure));
        }
    }
}

/// The services, and the routes that take them.
pub(super) fn compiled(
    named: &[(Arc<str>, Vec<Workload>)],
    derived: &[(Arc<str>, Expr)],
    routes: &[Route],
) -> Services {
    Services::new(named, derived, routes.iter().filter_map(|route| Some((route.id, route.rule.expr()?))))
}

fn name_of(name: &crate::config::error::Text) -> Arc<str> {
    Arc::from(&*name.value)
}

fn value_of(workload: &crate::config::error::Spanned<Workload>) -> Workload {
    workload.value.clone()
}
