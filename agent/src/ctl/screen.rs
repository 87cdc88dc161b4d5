//! What the output can show.

use std::io::{self, IsTerminal};

/// Where tables are shown: how wide, and whether in colours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Screen {
    terminal: bool,
    colours: bool,
    /// Columns.
    pub(super) width: usize,
}

/// A colour for a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    Green,
    Yellow,
    Red,
    Bold,
}

impl Screen {
    /// Standard output. Colours are for terminals, unless `NO_COLOR` is set (no-color.org) or the terminal is dumb.
    pub(super) fn of_stdout() -> Self {
        let terminal = io::stdout().is_terminal();
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { terminal, colours: terminal && !refused && !dumb, width: 100 }
    }

    /// Whether pictures can be renewed in place.
    pub(super) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// A text in a colour, where there are colours.
    pub(super) fn paint(&self, text: &str, colour: Option<Colour>) -> String {
        let code = match colour.filter(|_| self.colours && !text.is_empty()) {
            None => return text.to_owned(),
            Some(Colour::Green) => 32,
            Some(Colour::Yellow) => 33,
            Some(Colour::Red) => 31,
            Some(Colour::Bold) => 1,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    #[cfg(test)]
    pub(super) fn plain() -> Self {
        Self { terminal: false, colours: false, width: 100 }
    }

    #[cfg(test)]
    pub(super) fn coloured() -> Self {
        Self { terminal: true, colours: true, width: 100 }
    }
}
