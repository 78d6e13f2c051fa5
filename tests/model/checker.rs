//! Explores every state that a model can reach, breadth first, so that the trace to a violation is a shortest one.
//!
//! States are three words. They are kept in the order in which they were found, each with the one that it was found from:
//! that list is the queue and the way back at once, and a table of 32-bit places finds a state again.

/// A state, packed.
pub type Key = [u64; 3];

/// What can be explored.
pub trait Model {
    fn initial(&self) -> Key;

    /// Every state that is one step away.
    fn successors(&self, key: Key, found: &mut Vec<Key>);

    /// What must never be and is so in this state.
    fn violation(&self, key: Key) -> Option<&'static str>;
}

/// All states, in the order in which they were found.
pub struct Explored {
    states: Vec<Key>,
    found_from: Vec<u32>,
    places: Places,
}

/// Ends at the first violation, with the states that lead to it.
pub fn explore(model: &impl Model) -> Result<Explored, Violation> {
    let mut explored = Explored {
        states: vec![model.initial()],
        found_from: vec![0],
        places: Places::new(),
    };
    explored.places.enter(&explored.states);
    let mut found = Vec::new();
    let mut place = 0;
    while place < explored.states.len() {
        found.clear();
        model.successors(explored.states[place], &mut found);
        for key in &found {
            if explored.places.find(&explored.states, *key).is_some() {
                continue;
            }
            explored.states.push(*key);
            explored.found_from.push(index(place));
            explored.places.enter(&explored.states);
            if let Some(what) = model.violation(*key) {
                return Err(Violation {
                    what,
                    states: explored.states.len(),
                    trace: explored.way_to(explored.states.len() - 1),
                });
            }
        }
        place += 1;
    }
    Ok(explored)
}

/// How what must never be came to be.
#[derive(Debug)]
pub struct Violation {
    pub what: &'static str,
    /// How many states were found until then.
    pub states: usize,
    /// From the initial state on.
    pub trace: Vec<Key>,
}

impl Explored {
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// The first state from which `next`, step by step, does not come to a state where it has nothing left to do. It must
    /// lead through states that were found.
    pub fn stuck(&self, next: impl Fn(Key) -> Option<Key>) -> Option<Key> {
        const UNKNOWN: u8 = 0;
        const ON_THE_WAY: u8 = 1;
        const ARRIVES: u8 = 2;
        let mut known = vec![UNKNOWN; self.states.len()];
        let mut way = Vec::new();
        for start in 0..self.states.len() {
            let mut place = start;
            while known[place] == UNKNOWN {
                known[place] = ON_THE_WAY;
                way.push(place);
                match next(self.states[place]) {
                    None => known[place] = ARRIVES,
                    Some(key) => {
                        place = match self.places.find(&self.states, key) {
                            Some(place) => place,
                            None => return Some(self.states[place]),
                        }
                    }
                }
            }
            if known[place] == ON_THE_WAY {
                return Some(self.states[place]);
            }
            for place in way.drain(..) {
                known[place] = ARRIVES;
            }
        }
        None
    }

    fn way_to(&self, mut place: usize) -> Vec<Key> {
        let mut way = vec![self.states[place]];
        while place != 0 {
            place = self.found_from[place] as usize;
            way.push(self.states[place]);
        }
        way.reverse();
        way
    }
}

/// An open-addressed table of places in the list of states; 0 is a free slot, else the place plus one.
struct Places {
    slots: Vec<u32>,
}

impl Places {
    fn new() -> Self {
        Self {
            slots: vec![0; 1 << 12],
        }
    }

    fn find(&self, states: &[Key], key: Key) -> Option<usize> {
        let mut slot = self.first_slot(key);
        loop {
            let there = self.slots[slot];
            if there == 0 {
                return None;
            }
            let place = there as usize - 1;
            if states[place] == key {
                return Some(place);
            }
            slot = (slot + 1) & (self.slots.len() - 1);
        }
    }

    /// Enters the last of `states`, which is not there yet.
    fn enter(&mut self, states: &[Key]) {
        if states.len() * 2 > self.slots.len() {
            self.slots = vec![0; self.slots.len() * 2];
            for place in 0..states.len() - 1 {
                self.put(states, place);
            }
        }
        self.put(states, states.len() - 1);
    }

    fn put(&mut self, states: &[Key], place: usize) {
        let mut slot = self.first_slot(states[place]);
        while self.slots[slot] != 0 {
            slot = (slot + 1) & (self.slots.len() - 1);
        }
        self.slots[slot] = index(place + 1);
    }

    fn first_slot(&self, key: Key) -> usize {
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut hash = key[0].wrapping_mul(ODD);
        hash = (hash ^ (hash >> 32) ^ key[1]).wrapping_mul(ODD);
        hash = (hash ^ (hash >> 32) ^ key[2]).wrapping_mul(ODD);
        (hash >> 32) as usize & (self.slots.len() - 1)
    }
}

fn index(place: usize) -> u32 {
    u32::try_from(place).expect("fewer than 2^32 states")
}
