//! `roles:` the roles that the policy derives, each after those that it is made of.

use std::sync::Arc;

use super::Compiler;
use super::rule::Stand;
use crate::authz::rule::{Expr, Word};
use crate::config::error::Problem;

impl Compiler<'_> {
    /// The derived roles in an order in which each can be told from those before it.
    pub(super) fn derived(&mut self) -> Option<Vec<(Arc<str>, Expr)>> {
        let all: Vec<usize> = (0..self.file.issuers.len()).collect();
        let stand = Stand {
            what: "the definition of a role",
            captures: None,
            per_request: false,
            only: None,
            permits: true,
            accepted: &all,
        };
        let rules = &self.file.roles;
        let exprs: Vec<Option<Expr>> = rules.iter().map(|(_, rule)| self.expr(rule, &stand)).collect();
        let needs: Vec<Vec<usize>> = exprs.iter().map(|expr| self.needed(expr.as_ref())).collect();
        let order = self.order(&needs)?;
        let mut exprs: Vec<Expr> = exprs.into_iter().collect::<Option<_>>()?;
        let mut place = vec![usize::MAX; order.len()];
        for (at, role) in order.iter().enumerate() {
            if let Some(place) = place.get_mut(*role) {
                *place = at;
            }
        }
        let named = rules.iter().zip(exprs.drain(..)).map(|((name, _), expr)| (Arc::from(&*name.value), expr));
        let mut placed: Vec<_> = place.into_iter().zip(named).collect();
        placed.sort_by_key(|(at, _)| *at);
        Some(placed.into_iter().map(|(_, role)| role).collect())
    }

    /// The derived roles that an expression asks for.
    fn needed(&self, expr: Option<&Expr>) -> Vec<usize> {
        let words = expr.into_iter().flat_map(Expr::words);
        let names = words.filter_map(|(_, word)| if let Word::Role(name) = word { Some(&**name) } else { None });
        names.filter_map(|name| self.roles.get(name).copied()).collect()
    }

    /// Kahn's order; what is left over stands in circles or above one.
    fn order(&mut self, needs: &[Vec<usize>]) -> Option<Vec<usize>> {
        let mut missing: Vec<usize> = needs.iter().map(Vec::len).collect();
        let mut needed_by: Vec<Vec<usize>> = vec![Vec::new(); needs.len()];
        for (role, needs) in needs.iter().enumerate() {
            for need in needs {
                if let Some(above) = needed_by.get_mut(*need) {
                    above.push(role);
                }
            }
        }
        let mut order: Vec<usize> = Vec::with_capacity(needs.len());
        order.extend((0..needs.len()).filter(|role| missing.get(*role) == Some(&0)));
        let mut next = 0_usize;
        while let Some(role) = order.get(next).copied() {
            next = next.saturating_add(1);
            for above in needed_by.get(role).into_iter().flatten() {
                if let Some(left) = missing.get_mut(*above) {
                    *left = left.saturating_sub(1);
                    if *left == 0 {
                        order.push(*above);
                    }
                }
            }
        }
        if order.len() == needs.len() {
            return Some(order);
        }
        self.circles(needs, &missing);
        None
    }

    /// Names each circle once: from any role that is left over, its needs that are left over lead into one.
    fn circles(&mut self, needs: &[Vec<usize>], missing: &[usize]) {
        let is_left = |role: &usize| missing.get(*role).is_some_and(|left| *left > 0);
        let mut walk_of = vec![usize::MAX; needs.len()];
        for start in (0..needs.len()).filter(is_left) {
            let mut walk = Vec::new();
            let mut role = Some(start);
            while let Some(here) = role {
                match walk_of.get_mut(here) {
                    Some(walked) if *walked == usize::MAX => *walked = start,
                    Some(walked) if *walked == start => {
                        let circle = walk.iter().skip_while(|earlier| **earlier != here).copied().collect::<Vec<_>>();
                        self.circle(&circle);
                        break;
                    }
                    _ => break,
                }
                walk.push(here);
                role = needs.get(here).and_then(|needs| needs.iter().copied().find(|need| is_left(need)));
            }
        }
    }

    fn circle(&mut self, roles: &[usize]) {
        let mut names: Vec<_> = roles.iter().filter_map(|at| self.file.roles.get(*at)).map(|(name, _)| name).collect();
        let Some(first) = names.first().copied() else { return };
        names.push(first);
        let path = names.iter().map(|name| format!("`{}`", name.value)).collect::<Vec<_>>().join(" needs ");
        let mut problem = Problem::error("role_cycle", first.span, format!("{path}: no role can be made of itself"))
            .cure("name the claim that lists it, as in claim:realm_access.roles=admin");
        for name in names.iter().skip(1).take(names.len().saturating_sub(2)) {
            problem = problem.related(name.span, "part of the circle");
        }
        self.report(problem);
    }
}
