//! The part of a shell's grammar that commands in documents use: words, quotes, comments, redirections, and separators.
//! Nothing is expanded.

/// The words of a command, without redirections.
pub(crate) type Words = Vec<String>;

/// All commands of a script.
pub(crate) fn commands(script: &str) -> Vec<Words> {
    Reader::new(script).read(false)
}

/// The commands on the first line, which continues in the next one while a quote is open or after a backslash.
pub(crate) fn first_line(script: &str) -> Vec<Words> {
    Reader::new(script).read(true)
}

struct Reader<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    commands: Vec<Words>,
    words: Words,
    word: Option<String>,
    /// The next word is the file of a redirection.
    is_redirected: bool,
}

impl<'a> Reader<'a> {
    fn new(script: &'a str) -> Self {
        let rest = script.chars().peekable();
        Self { rest, commands: Vec::new(), words: Vec::new(), word: None, is_redirected: false }
    }

    fn read(mut self, is_line: bool) -> Vec<Words> {
        while let Some(character) = self.rest.next() {
            match character {
                '\\' => match self.rest.next() {
                    Some('\n') | None => {}
                    Some(escaped) => self.push(escaped),
                },
                '\'' => self.quoted('\''),
                '"' => self.quoted('"'),
                '$' if self.rest.peek() == Some(&'(') => self.substitution(),
                '#' if self.word.is_none() => while self.rest.next_if(|&next| next != '\n').is_some() {},
                '>' | '<' => self.redirect(),
                '\n' if is_line => break,
                '\n' | ';' | '|' | '&' => self.end_command(),
                '(' | ')' if self.word.is_none() => self.end_command(),
                space if space.is_whitespace() => self.end_word(),
                other => self.push(other),
            }
        }
        self.end_command();
        self.commands
    }

    fn push(&mut self, character: char) {
        self.word.get_or_insert_default().push(character);
    }

    fn quoted(&mut self, quote: char) {
        self.word.get_or_insert_default();
        while let Some(character) = self.rest.next() {
            match character {
                end if end == quote => return,
                '\\' if quote == '"' => {
                    let escaped = self.rest.next();
                    escaped.into_iter().for_each(|escaped| self.push(escaped));
                }
                other => self.push(other),
            }
        }
    }

    /// `$(...)` is one word.
    fn substitution(&mut self) {
        self.push('$');
        for character in self.rest.by_ref() {
            self.word.get_or_insert_default().push(character);
            if character == ')' {
                return;
            }
        }
    }

    fn redirect(&mut self) {
        // The number of a redirected descriptor.
        if self.word.as_ref().is_some_and(|word| word.bytes().all(|byte| byte.is_ascii_digit())) {
            self.word = None;
        }
        self.end_word();
        while self.rest.next_if(|&next| next == '>' || next == '&').is_some() {}
        self.is_redirected = true;
    }

    fn end_word(&mut self) {
        let Some(word) = self.word.take() else { return };
        if !std::mem::take(&mut self.is_redirected) {
            self.words.push(word);
        }
    }

    fn end_command(&mut self) {
        self.end_word();
        if !self.words.is_empty() {
            self.commands.push(std::mem::take(&mut self.words));
        }
    }
}

#[test]
fn words_are_read_as_a_shell_reads_them() {
    let read =
        |script: &str| -> Vec<String> { commands(script).iter().map(|words| words.join("|")).collect() };
    assert_eq!(read("a 'b c' \"d \\\" e\" f\\ g"), ["a|b c|d \" e|f g"]);
    assert_eq!(read("a b # c\n# d\ne && f; g | h &"), ["a|b", "e", "f", "g", "h"]);
    assert_eq!(read("a > b 2>/dev/null c < d 2>&1 e"), ["a|c|e"]);
    assert_eq!(read("a \\\n  b\nc"), ["a|b", "c"]);
    assert_eq!(read("a x-$(date +%F) y#z"), ["a|x-$(date +%F)|y#z"]);
    assert_eq!(first_line("a 'b\nc' \\\n d\ne"), [["a", "b\nc", "d"]]);
}
