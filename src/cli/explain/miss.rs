//! The nearest miss: the fewest words of a rule that would have had to answer otherwise, and how to say so.

use crate::authz::identity::Truth;
use crate::authz::rule::{Expr, Word, Words};

use super::scene::Sight;

/// How many ways are told.
const MOST: usize = 3;

/// Words with the answers that they would need.
pub(super) type Miss<'r> = Vec<(&'r Word, Truth)>;

/// The smallest sets of words, one or two, that would bring a rule to `target`. `may` says which answers can be had.
pub(super) fn nearest<'r>(
    rule: &'r Expr,
    words: &Words,
    target: Truth,
    may: &dyn Fn(&Word, Truth) -> bool,
) -> Vec<Miss<'r>> {
    let mut flips: Miss<'r> = Vec::new();
    for (at, word) in rule.words() {
        for truth in [Truth::True, Truth::False] {
            if words.truth(at) != truth && may(word, truth) && !flips.contains(&(word, truth)) {
                flips.push((word, truth));
            }
        }
    }
    let brings = |miss: &Miss<'r>| {
        let flipped = |word: &Word| miss.iter().find(|(flipped, _)| *flipped == word).map(|(_, truth)| *truth);
        rule.suppose(&|at, word| flipped(word).unwrap_or_else(|| words.truth(at))) == target
    };
    let singles: Vec<Miss<'r>> = flips.iter().map(|flip| vec![*flip]).filter(brings).collect();
    if !singles.is_empty() {
        return singles;
    }
    let pairs = flips.iter().enumerate().flat_map(|(at, one)| {
        let others = flips.iter().skip(at.saturating_add(1)).filter(|two| two.0 != one.0);
        others.map(|two| vec![*one, *two])
    });
    pairs.filter(brings).collect()
}

/// The ways to pass, as sentences without their beginning.
pub(super) fn told(misses: &[Miss<'_>], sight: &Sight<'_>) -> Vec<String> {
    let mut told: Vec<String> = misses.iter().take(MOST).map(|miss| sentence(miss, sight)).collect();
    let more = misses.len().saturating_sub(MOST);
    if more > 0 {
        told.push(format!("in {more} more ways"));
    }
    told
}

fn sentence(miss: &Miss<'_>, sight: &Sight<'_>) -> String {
    let (mut wanted, mut actual) = (Vec::new(), Vec::new());
    for (word, truth) in miss {
        let (want, is) = sight.flip(word, *truth);
        wanted.push(want);
        if !is.is_empty() && !actual.contains(&is) {
            actual.push(is);
        }
    }
    let wanted = wanted.join(" and ");
    if actual.is_empty() { wanted } else { format!("{wanted}; {}", actual.join(", ")) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(rule: &Expr, truths: &[Truth]) -> Words {
        Words(rule.words().zip(truths.iter().cycle()).map(|((at, _), truth)| (at, *truth)).collect())
    }

    fn found(rule: &str, truths: &[Truth], target: Truth) -> Vec<String> {
        let rule = Expr::parse(rule).unwrap();
        let misses = nearest(&rule, &words(&rule, truths), target, &|_, _| true);
        let one = |(word, truth): &(&Word, Truth)| format!("{word}={truth:?}");
        misses.iter().map(|miss| miss.iter().map(one).collect::<Vec<_>>().join("+")).collect()
    }

    #[test]
    fn the_fewest_words_are_found() {
        let no = [Truth::False];
        assert_eq!(found("owner:id or role:admin", &no, Truth::True), ["owner:id=True", "role:admin=True"]);
        assert_eq!(found("role:a and role:b", &no, Truth::True), ["role:a=True+role:b=True"]);
        assert_eq!(found("role:a or (role:b and role:c)", &no, Truth::True), ["role:a=True"]);
        assert_eq!(found("not role:a", &[Truth::True], Truth::True), ["role:a=False"]);
        assert_eq!(found("not role:a", &[Truth::Unknown], Truth::True), ["role:a=False"]);
        assert_eq!(found("role:a and role:b and role:c", &no, Truth::True), [""; 0]);
        assert_eq!(found("role:a or network:10.0.0.0/8", &[Truth::True], Truth::False).len(), 1);
    }

    #[test]
    fn a_word_that_stands_twice_has_one_answer() {
        assert_eq!(found("role:a and (role:a or role:b)", &[Truth::False], Truth::True), ["role:a=True"]);
        let truths = [Truth::False, Truth::False];
        assert_eq!(found("role:a and not role:a", &truths, Truth::True), [""; 0]);
    }

    fn truth() -> impl Strategy<Value = Truth> {
        prop_oneof![Just(Truth::True), Just(Truth::False), Just(Truth::Unknown)]
    }

    /// A random tree over a few words, so that some stand twice.
    fn tree() -> impl Strategy<Value = String> {
        let leaf = (0..5_u8).prop_map(|at| format!("role:r{at}"));
        leaf.prop_recursive(4, 16, 3, |inner| {
            prop_oneof![
                inner.clone().prop_map(|part| format!("not ({part})")),
                prop::collection::vec(inner.clone(), 2..4).prop_map(|parts| format!("({})", parts.join(" and "))),
                prop::collection::vec(inner, 2..4).prop_map(|parts| format!("({})", parts.join(" or "))),
            ]
        })
    }

    proptest! {
        #[test]
        fn with_the_suggested_answers_the_rule_comes_to_what_was_wanted(
            text in tree(), truths in prop::collection::vec(truth(), 5), target in prop_oneof![Just(Truth::True), Just(Truth::False)],
        ) {
            let rule = Expr::parse(&text).unwrap();
            let of = |word: &Word| match word {
                Word::Role(name) => truths[name.trim_start_matches('r').parse::<usize>().unwrap()],
                _ => Truth::Unknown,
            };
            let words = Words(rule.words().map(|(at, word)| (at, of(word))).collect());
            let misses = nearest(&rule, &words, target, &|_, _| true);
            for miss in &misses {
                let flipped = |word: &Word| miss.iter().find(|(w, _)| *w == word).map_or(of(word), |(_, truth)| *truth);
                prop_assert_eq!(rule.suppose(&|_, word| flipped(word)), target);
                for (word, truth) in miss {
                    prop_assert_ne!(of(word), *truth);
                }
                prop_assert!(miss.len() == misses[0].len() && miss.len() <= 2);
            }
            // Nothing smaller is passed over: where no single word helps, none is found by trying them all.
            if misses.first().is_none_or(|miss| miss.len() == 2) && rule.suppose(&|_, word| of(word)) != target {
                for name in 0..5_u8 {
                    for truth in [Truth::True, Truth::False] {
                        let is = |word: &Word| *word == Word::Role(format!("r{name}").into());
                        prop_assert_ne!(rule.suppose(&|_, word| if is(word) { truth } else { of(word) }), target);
                    }
                }
            }
        }
    }
}
