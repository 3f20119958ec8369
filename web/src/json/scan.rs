//! One pass over JSON text before it is parsed: how deep does it nest, does an object have a member twice, or one whose
//! name means something to the parser itself?
//!
//! A parser would recurse on the first, and silently keep one of two values on the second, which for a dose or an allergy
//! is not ours to choose. The third (`$serde_json::private::RawValue` and its kind) would make it take an object for a
//! number, or a text for JSON that nobody has scanned; see [`is_reserved`]. Whether the text is JSON at all is left to the parser; the scan only has to end on any bytes.

use std::{borrow::Cow, collections::HashSet};

/// From this many members on, an object's names are looked up by hash.
const HASHED_FROM: usize = 24;

/// What the scan found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScanFault {
    TooDeep,
    /// The pointer leads to the repeated member.
    RepeatedMember {
        pointer: String,
    },
    /// The pointer leads to the object that has a member of such a name; the name is the sender's.
    ReservedName {
        pointer: String,
    },
}

/// An object or array that is open.
enum Frame<'a> {
    Object { names_from: usize, hashed: Option<HashSet<Cow<'a, [u8]>>>, name_comes_next: bool },
    Array { index: usize },
}

struct Scan<'a> {
    text: &'a [u8],
    frames: Vec<Frame<'a>>,
    /// The names of all open objects, one after the other; each frame knows where its own begin.
    names: Vec<Cow<'a, [u8]>>,
}

/// Scans a text. Nesting beyond `depth_max`, repeated members and reserved names are faults.
pub fn scan(text: &[u8], depth_max: usize) -> Result<(), ScanFault> {
    Scan { text, frames: Vec::with_capacity(16), names: Vec::with_capacity(64) }.run(depth_max)
}

impl<'a> Scan<'a> {
    fn run(mut self, depth_max: usize) -> Result<(), ScanFault> {
        let mut at = 0;
        while let Some(byte) = self.text.get(at) {
            match byte {
                b'"' => {
                    let end = string_end(self.text, at + 1);
                    self.take_string(at, end)?;
                    at = end;
                }
                b'{' => {
                    let names_from = self.names.len();
                    self.frames.push(Frame::Object { names_from, hashed: None, name_comes_next: true });
                }
                b'[' => self.frames.push(Frame::Array { index: 0 }),
                b'}' | b']' => self.close(),
                b',' => self.next_element(),
                _ => {}
            }
            if self.frames.len() > depth_max {
                return Err(ScanFault::TooDeep);
            }
            at += 1;
        }
        Ok(())
    }

    /// A string is a name if an object waits for one. `start` and `end` are the places of its quotes.
    fn take_string(&mut self, start: usize, end: usize) -> Result<(), ScanFault> {
        let Some(Frame::Object { names_from, hashed, name_comes_next }) = self.frames.last_mut() else { return Ok(()) };
        if !std::mem::replace(name_comes_next, false) {
            return Ok(());
        }
        let name = unescape(self.text.get(start..=end).unwrap_or_default());
        if is_reserved(&name) {
            return Err(ScanFault::ReservedName { pointer: self.place() });
        }
        let siblings = self.names.get(*names_from..).unwrap_or_default();
        let repeated = match hashed {
            Some(set) => !set.insert(name.clone()),
            None => siblings.contains(&name),
        };
        if hashed.is_none() && siblings.len() >= HASHED_FROM {
            *hashed = Some(siblings.iter().cloned().chain([name.clone()]).collect());
        }
        self.names.push(name);
        if repeated { Err(ScanFault::RepeatedMember { pointer: self.pointer() }) } else { Ok(()) }
    }

    fn close(&mut self) {
        if let Some(Frame::Object { names_from, .. }) = self.frames.pop() {
            self.names.truncate(names_from);
        }
    }

    fn next_element(&mut self) {
        match self.frames.last_mut() {
            Some(Frame::Object { name_comes_next, .. }) => *name_comes_next = true,
            Some(Frame::Array { index }) => *index += 1,
            None => {}
        }
    }

    /// The object that is open, before it has its next name.
    fn place(&self) -> String {
        let within = self.frames.len().saturating_sub(1);
        self.pointer_of(within)
    }

    /// Where the scan stands: of each open object the latest name, of each open array the index.
    fn pointer(&self) -> String {
        self.pointer_of(self.frames.len())
    }

    /// The same as far as the outermost `frames` tell.
    fn pointer_of(&self, frames: usize) -> String {
        let mut pointer = String::new();
        for (at, frame) in self.frames.iter().enumerate().take(frames) {
            pointer.push('/');
            match frame {
                Frame::Array { index } => pointer.push_str(&index.to_string()),
                Frame::Object { .. } => {
                    let end = self.names_end(at);
                    let name = end.checked_sub(1).and_then(|last| self.names.get(last));
                    let name = name.map(|name| String::from_utf8_lossy(name)).unwrap_or_default();
                    pointer.push_str(&super::fault::escape(&name));
                }
            }
        }
        pointer
    }

    fn names_end(&self, at: usize) -> usize {
        let inner = self.frames.iter().skip(at + 1).find_map(|frame| match frame {
            Frame::Object { names_from, .. } => Some(*names_from),
            Frame::Array { .. } => None,
        });
        inner.unwrap_or(self.names.len())
    }
}

/// Whether the name is one of those by which `serde` formats talk to themselves: `serde_json` reads an object whose first
/// member is `$serde_json::private::Number` as a number. Nothing that is taken here has names with a dollar in front.
fn is_reserved(name: &[u8]) -> bool {
    name.first() == Some(&b'$')
}

/// The place of the closing quote of a string whose content begins at `at`, or the end of the text.
fn string_end(text: &[u8], mut at: usize) -> usize {
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => return at,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

/// The content of a quoted string; `"a"` and `"\u0061"` are the same name.
fn unescape(quoted: &[u8]) -> Cow<'_, [u8]> {
    let content = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
    if !content.contains(&b'\\') {
        return Cow::Borrowed(content);
    }
    match serde_json::from_slice::<String>(quoted) {
        Ok(text) => Cow::Owned(text.into_bytes()),
        Err(_) => Cow::Borrowed(content),
    }
}
