//! Keeping secrets out of everything that is published (rule 23 of the journal protocol).

/// What takes the place of a secret.
const MASK: &str = "***";
/// Parts of the names of variables whose values are secret.
const SECRET_NAMES: [&str; 11] = [
    "SECRET",
    "TOKEN",
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "CREDENTIAL",
    "API_KEY",
    "APIKEY",
    "ACCESS_KEY",
    "PRIVATE_KEY",
    "WEBHOOK_URL",
];
/// Values shorter than this would mask half of every line, and protect nothing.
const SHORTEST: usize = 4;

/// Knows the values that must not be shown.
#[derive(Debug, Clone, Default)]
pub struct Redactor {
    /// Longest first, so that a secret that contains another is masked as a whole.
    values: Vec<String>,
}

impl Redactor {
    /// Values of variables whose names say that they are secret.
    pub fn for_environment<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut redactor = Self::default();
        for (name, value) in variables {
            if is_secret(name) {
                redactor.register(value);
            }
        }
        redactor
    }

    /// Adds a value; each of its lines counts, since output is published line by line.
    pub fn register(&mut self, value: &str) {
        let lines = value.lines().map(str::trim).filter(|line| line.len() >= SHORTEST);
        for line in lines {
            if !self.values.iter().any(|known| known == line) {
                self.values.push(line.to_owned());
            }
        }
        self.values.sort_by_key(|known| std::cmp::Reverse(known.len()));
    }

    /// The text without secrets.
    pub fn redact(&self, text: &str) -> String {
        self.values.iter().fold(text.to_owned(), |text, secret| {
            if text.contains(secret.as_str()) { text.replace(secret.as_str(), MASK) } else { text }
        })
    }

    /// Length of the longest secret in bytes: how much of a cut line may be a part of one.
    pub fn longest(&self) -> usize {
        self.values.first().map_or(0, String::len)
    }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    SECRET_NAMES.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_secret_variables_are_masked_wherever_they_appear() {
        let redactor =
            Redactor::for_environment([("API_TOKEN", "abcd1234"), ("db_password", "hunter22"), ("COLOR", "blue")]);
        assert_eq!(redactor.redact("blue abcd1234 xhunter22x"), "blue *** x***x");
    }

    #[test]
    fn names_that_people_give_to_secrets_are_known() {
        for name in
            ["STRIPE_API_KEY", "AWS_ACCESS_KEY_ID", "ssh_private_key", "DB_PASSWD", "GPG_PASSPHRASE", "CREDENTIALS"]
        {
            assert_eq!(Redactor::for_environment([(name, "value-1234")]).redact("is value-1234"), "is ***", "{name}");
        }
        for name in ["CDFLOW_STEP_KEY", "KEYBOARD", "URL", "USER"] {
            assert_eq!(Redactor::for_environment([(name, "value-1234")]).redact("value-1234"), "value-1234", "{name}");
        }
    }

    #[test]
    fn a_secret_that_contains_another_is_masked_as_a_whole() {
        let redactor = Redactor::for_environment([("A_SECRET", "abcd"), ("B_SECRET", "abcd-efgh")]);
        assert_eq!(redactor.redact("abcd-efgh"), "***");
    }

    #[test]
    fn each_line_of_a_key_is_masked_and_short_values_are_not() {
        let redactor = Redactor::for_environment([("KEY_SECRET", "-----BEGIN\nline-one\nx\n"), ("PIN_TOKEN", "1")]);
        assert_eq!(redactor.redact("line-one 1 x"), "*** 1 x");
    }
}
