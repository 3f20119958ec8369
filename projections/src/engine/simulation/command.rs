//! Clients that retry what is unknown under the same key, and the processes (command-api) that append for them.

use std::collections::{BTreeMap, VecDeque};

use super::store::{Answer, Command, Ended, Intent, Receipt, Store};

/// How many commands go into one call.
const COMMANDS_PER_CALL: usize = 2;

/// A process that appends. What it holds in memory dies with it.
#[derive(Debug, Default)]
pub struct Writer {
    /// Rises with each start.
    pub life: u64,
    queue: VecDeque<(Ticket, Command)>,
    in_flight: Option<InFlight>,
}

#[derive(Debug)]
struct InFlight {
    call: u64,
    commands: Vec<(Ticket, Command)>,
    ended: Option<Ended>,
}

/// Which try of which client.
type Ticket = (usize, u64);

impl Writer {
    pub fn step(&mut self, store: &mut Store, clients: &mut [Client]) -> Result<(), String> {
        match self.in_flight.take() {
            Some(InFlight { commands, ended: Some(Ok(answers)), .. }) => {
                for ((ticket, _), answer) in commands.into_iter().zip(answers) {
                    clients[ticket.0].hear(ticket.1, answer)?;
                }
            }
            // A unique index was broken by somebody else's success: again, and the check will see it.
            Some(InFlight { commands, ended: Some(Err(())), .. }) => {
                commands.into_iter().rev().for_each(|waiting| self.queue.push_front(waiting));
            }
            Some(waiting) => self.in_flight = Some(waiting),
            None => self.send(store),
        }
        Ok(())
    }

    fn send(&mut self, store: &mut Store) {
        let mut commands: Vec<(Ticket, Command)> = Vec::new();
        while let Some((_, next)) = self.queue.front() {
            let fits = commands.iter().all(|(_, other)| next.is_apart_from(other));
            if commands.len() == COMMANDS_PER_CALL || !fits {
                break;
            }
            commands.extend(self.queue.pop_front());
        }
        if !commands.is_empty() {
            let call = store.call(commands.iter().map(|(_, command)| command.clone()).collect());
            self.in_flight = Some(InFlight { call, commands, ended: None });
        }
    }

    /// The server has answered.
    pub fn hear(&mut self, call: u64, ended: &Ended) {
        if let Some(waiting) = self.in_flight.as_mut().filter(|waiting| waiting.call == call) {
            waiting.ended = Some(ended.clone());
        }
    }

    /// Dies. What the server is doing for it is rolled back, or goes on.
    pub fn crash(&mut self, store: &mut Store, rolled_back: bool) {
        if let Some(InFlight { call, .. }) = &self.in_flight
            && rolled_back
        {
            store.roll_back(*call);
        }
        *self = Self { life: self.life + 1, ..Self::default() };
    }
}

/// Someone who wants things done, one after the other, and keeps account of what was said.
#[derive(Debug)]
pub struct Client {
    number: usize,
    pub wanted: VecDeque<Intent>,
    try_number: u64,
    state: State,
    /// What was acknowledged, by key; the second time in the same words.
    pub acknowledged: BTreeMap<u32, Receipt>,
    /// What was definitely refused.
    pub refused: Vec<u32>,
}

#[derive(Debug)]
enum State {
    Idle,
    Decided(Command),
    Waiting { writer: usize, life: u64 },
}

impl Client {
    pub fn new(number: usize, wanted: Vec<Intent>) -> Self {
        let (acknowledged, refused) = (BTreeMap::new(), Vec::new());
        Self { number, wanted: wanted.into(), try_number: 0, state: State::Idle, acknowledged, refused }
    }

    pub fn step(&mut self, store: &Store, writers: &mut [Writer], dice: u32) {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Idle => {
                if let Some(intent) = self.wanted.front() {
                    self.state = State::Decided(store.decide(intent));
                }
            }
            State::Decided(command) => {
                let writer = usize::try_from(dice).unwrap() % writers.len();
                self.try_number += 1;
                writers[writer].queue.push_back(((self.number, self.try_number), command));
                self.state = State::Waiting { writer, life: writers[writer].life };
            }
            // The writer died, or the client loses patience: unknown, and so once more under the same key.
            State::Waiting { writer, life } if writers[writer].life != life || dice.is_multiple_of(64) => {}
            waiting => self.state = waiting,
        }
    }

    fn hear(&mut self, try_number: u64, answer: Answer) -> Result<(), String> {
        if try_number != self.try_number || !matches!(self.state, State::Waiting { .. }) {
            return Ok(());
        }
        self.state = State::Idle;
        let Some(key) = self.wanted.front().map(|intent| intent.key) else { return Ok(()) };
        match answer {
            Answer::Conflict => return Ok(()),
            Answer::Taken => self.refused.push(key),
            Answer::Appended(receipt) | Answer::Duplicate(receipt) => drop(self.acknowledged.insert(key, receipt)),
        }
        self.wanted.pop_front();
        Ok(())
    }
}
