//! Commands in documents with their expected output: blocks of `console`, in which a line after `$ ` is a command (one
//! that ends with a backslash continues in the next line) and the lines below are its output.

/// The pattern that matches anything.
const ANYTHING: &str = "...";

/// A command and its expected output.
#[derive(Debug, PartialEq, Eq)]
pub struct Recipe {
    /// The number of its line in the document.
    pub line: usize,
    /// The command.
    pub command: String,
    /// The expected output.
    pub expected: String,
}

/// The recipes of a document, in their order.
pub fn recipes(text: &str) -> Vec<Recipe> {
    let mut recipes: Vec<Recipe> = Vec::new();
    let (mut is_console, mut is_command_open) = (false, false);
    for (index, line) in text.lines().enumerate() {
        if let Some(language) = line.strip_prefix("```") {
            is_console = language == "console";
        } else if !is_console {
        } else if let Some(command) = line.strip_prefix("$ ") {
            let (line, command) = (index + 1, command.to_owned());
            is_command_open = command.ends_with('\\');
            recipes.push(Recipe { line, command, expected: String::new() });
        } else if let Some(recipe) = recipes.last_mut() {
            if is_command_open {
                recipe.command.push('\n');
                recipe.command.push_str(line);
                is_command_open = line.ends_with('\\');
            } else {
                recipe.expected.push_str(line);
                recipe.expected.push('\n');
            }
        }
    }
    recipes
}

/// Text with every run of white space as one space, since clients indent differently.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a text has the parts of a pattern in order; `...` in the pattern matches anything.
///
/// # Errors
/// The part that does not match.
pub fn fits(pattern: &str, text: &str) -> Result<(), String> {
    let text = flat(text);
    let mut rest = text.as_str();
    let pattern = flat(pattern);
    for (index, part) in pattern.split(ANYTHING).map(str::trim).enumerate() {
        let Some(at) = rest.find(part) else { return Err(format!("{part:?} is not where it should be")) };
        if index == 0 && at > 0 {
            return Err(format!("it does not begin with {part:?}"));
        }
        rest = &rest[at + part.len()..];
    }
    let is_open = pattern.ends_with(ANYTHING);
    if is_open || rest.trim().is_empty() { Ok(()) } else { Err(format!("it goes on with {rest:?}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_what_it_describes_and_nothing_else() {
        assert_eq!(fits("{\n  \"a\": \"...\",\n...\n}", "{ \"a\": \"7\", \"b\": 1 }"), Ok(()));
        assert!(fits("{ \"a\": 1 }", "{ \"a\": 1, \"b\": 2 }").is_err());
        assert!(fits("b ...", "a b c").is_err());
        assert!(fits("... x ... y", "y x").is_err());
        assert!(fits("", "x").is_err());
    }

    #[test]
    fn a_command_can_take_several_lines_and_everything_else_is_no_command() {
        let text = "$ no\n```sh\n$ nor this\n```\n```console\n$ a \\\n    b\nc\nd\n$ e\n```\nf\n";
        let recipe = |line, command: &str, expected: &str| Recipe {
            line,
            command: command.to_owned(),
            expected: expected.to_owned(),
        };
        assert_eq!(recipes(text), [recipe(6, "a \\\n    b", "c\nd\n"), recipe(10, "e", "")]);
    }
}
