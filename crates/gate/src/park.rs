//! Requests that wait inside the gate: first in, first out, bounded in all and by address.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

/// The bounds of a [`Park`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    pub(crate) all: usize,
    pub(crate) per_address: usize,
    pub(crate) bodies_bytes: usize,
    pub(crate) unread: usize,
}

/// What a waiting request's body takes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyRoom {
    /// Read while waiting, at most so many bytes.
    Kept(usize),
    /// Left in the socket.
    Unread,
}

/// The waiting requests, each with what is needed to let it go.
#[derive(Debug)]
pub(crate) struct Park<T> {
    room: Room,
    next: u64,
    waiting: BTreeMap<u64, (IpAddr, BodyRoom, T)>,
    by_address: HashMap<IpAddr, usize>,
    bodies_bytes: usize,
    unread: usize,
}

impl<T> Park<T> {
    pub(crate) fn new(room: Room) -> Self {
        Self {
            room,
            next: 0,
            waiting: BTreeMap::new(),
            by_address: HashMap::new(),
            bodies_bytes: 0,
            unread: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// A place, or nothing where there is no room.
    pub(crate) fn join(&mut self, address: IpAddr, body: BodyRoom, release: T) -> Option<u64> {
        let here = self.by_address.get(&address).copied().unwrap_or(0);
        let fits = match body {
            BodyRoom::Kept(bytes) => self.bodies_bytes + bytes <= self.room.bodies_bytes,
            BodyRoom::Unread => self.unread < self.room.unread,
        };
        if self.waiting.len() >= self.room.all || here >= self.room.per_address || !fits {
            return None;
        }
        match body {
            BodyRoom::Kept(bytes) => self.bodies_bytes += bytes,
            BodyRoom::Unread => self.unread += 1,
        }
        self.by_address.insert(address, here + 1);
        let place = self.next;
        self.next += 1;
        self.waiting.insert(place, (address, body, release));
        Some(place)
    }

    /// Frees a place: its client left, or waited long enough.
    pub(crate) fn leave(&mut self, place: u64) -> Option<T> {
        let (address, body, release) = self.waiting.remove(&place)?;
        match body {
            BodyRoom::Kept(bytes) => self.bodies_bytes -= bytes,
            BodyRoom::Unread => self.unread -= 1,
        }
        if let Some(here) = self.by_address.get_mut(&address) {
            *here -= 1;
            if *here == 0 {
                self.by_address.remove(&address);
            }
        }
        Some(release)
    }

    /// The one who waits longest.
    pub(crate) fn first(&mut self) -> Option<T> {
        let place = *self.waiting.keys().next()?;
        self.leave(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    fn park() -> Park<u8> {
        Park::new(Room { all: 4, per_address: 2, bodies_bytes: 100, unread: 1 })
    }

    #[test]
    fn the_first_who_came_is_the_first_who_goes_and_leavers_keep_no_place() {
        let mut park = park();
        let places: Vec<u64> =
            (1..=4).map(|n| park.join(address(n), BodyRoom::Kept(0), n).unwrap()).collect();
        assert_eq!(park.join(address(9), BodyRoom::Kept(0), 9), None);
        assert_eq!(park.leave(places[1]), Some(2));
        assert_eq!(park.leave(places[1]), None);
        assert!(park.join(address(9), BodyRoom::Kept(0), 9).is_some());
        let order: Vec<u8> = std::iter::from_fn(|| park.first()).collect();
        assert_eq!(order, [1, 3, 4, 9]);
        assert_eq!(park.len(), 0);
    }

    #[test]
    fn each_bound_holds_and_is_given_back() {
        let mut park = park();
        let first = park.join(address(1), BodyRoom::Kept(60), 1).unwrap();
        assert_eq!(park.join(address(2), BodyRoom::Kept(41), 2), None, "bodies");
        park.join(address(1), BodyRoom::Unread, 3).unwrap();
        assert_eq!(park.join(address(1), BodyRoom::Kept(0), 4), None, "address");
        assert_eq!(park.join(address(2), BodyRoom::Unread, 5), None, "unread");
        park.leave(first);
        assert!(park.join(address(1), BodyRoom::Kept(100), 6).is_some());
    }
}
