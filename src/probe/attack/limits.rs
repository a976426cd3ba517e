//! Many lines and large ones: nothing passes for them, and nothing is cut off.

use super::{Attacks, Rule};

/// How many lines: 100 is the limit of most gateways and servers, 1,000 of some.
const LINES: &[usize] = &[60, 80, 90, 95, 98, 99, 100, 101, 200, 1_001];
/// How many bytes.
const SIZES: &[usize] = &[8 * 1_024, 16 * 1_024, 64 * 1_024];

impl Attacks<'_> {
    pub(super) fn limits(&mut self) {
        let site = self.site;
        if let Some(protected) = &site.protected {
            let get = site.get(protected);
            for (what, lines) in fillers() {
                let request = get.clone().with_all(lines);
                let with_token = request.clone().with("Authorization: Bearer a.b.c");
                self.push("many_headers", what.clone(), Rule::Barred, request);
                self.push("many_headers", format!("{what} and a bad token"), Rule::Barred, with_token);
            }
            for size in SIZES {
                let token = format!("Authorization: Bearer {}", "a".repeat(*size));
                let request = get.clone().with(token);
                self.push("many_headers", format!("a token of {size} bytes"), Rule::Barred, request);
                let request = site.get(&format!("{protected}?x={}", "a".repeat(*size)));
                self.push("many_headers", format!("a query of {size} bytes"), Rule::Barred, request);
            }
        }
        let forged: Vec<String> = site.managed.iter().map(|name| format!("{name}: {}", site.forged)).collect();
        if let Some(public) = site.public.as_ref().filter(|_| !forged.is_empty()) {
            for (what, lines) in fillers() {
                let request = site.get(public).with_all(lines).with_all(forged.clone());
                self.push("forged_cut_off", format!("behind {what}"), Rule::Forged, request);
            }
        }
        if let (Some(protected), Some(token)) = (&site.protected, &site.token) {
            for (what, lines) in fillers() {
                let request = site.get(protected).with_all(lines).with(token).with_all(forged.clone());
                self.push("identity_cut_off", format!("behind {what}"), Rule::Kept, request);
            }
        }
    }
}

/// What other lines stand behind.
fn fillers() -> Vec<(String, Vec<String>)> {
    let many = LINES.iter().map(|count| {
        let lines = (0..*count).map(|at| format!("x-filler-{at}: v")).collect();
        (format!("{count} lines"), lines)
    });
    let large = SIZES.iter().map(|size| (format!("{size} bytes"), vec![format!("x-filler: {}", "a".repeat(*size))]));
    many.chain(large).collect()
}
