/// An error with its causes, in one line: `reading the file: permission denied`.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_follow_their_effects() {
        #[derive(Debug, thiserror::Error)]
        #[error("reading the file")]
        struct Reading(#[source] std::io::Error);
        assert_eq!(chain(&Reading(std::io::Error::other("no disk"))), "reading the file: no disk");
    }
}
