//! What a policy remembers of each endpoint of the last snapshot.

use super::endpoint_states::Positions;
use crate::{Endpoint, EndpointId, EndpointSet};

/// A row for each endpoint, in the resolver's order.
#[derive(Debug, Default)]
pub(super) struct Roster<T> {
    endpoints: EndpointSet,
    rows: Vec<T>,
    positions: Positions,
}

impl<T: Default> Roster<T> {
    /// Takes a snapshot: an endpoint that stays keeps its row, one that is new begins with an empty one. Returns the new ones.
    pub(super) fn update(&mut self, endpoints: &EndpointSet) -> Vec<EndpointId> {
        let before = self.endpoints.as_slice();
        let mut new = Vec::new();
        // Most stay where they are, and need no looking up.
        let moves =
            |&(place, e): &(usize, &Endpoint)| before.get(place).is_none_or(|b| b.id != e.id || b.address != e.address);
        let moved: Vec<(usize, T)> = (0..)
            .zip(endpoints)
            .filter(moves)
            .map(|(place, e)| {
                // The address tells an endpoint that stayed from a new one under a reused id.
                match self.positions.get(e.id).filter(|&p| before[p].address == e.address) {
                    Some(p) => (place, std::mem::take(&mut self.rows[p])),
                    None => {
                        new.push(e.id);
                        (place, T::default())
                    }
                }
            })
            .collect();
        self.rows.resize_with(endpoints.len(), T::default);
        if !moved.is_empty() || endpoints.len() != before.len() {
            self.positions = Positions::of(endpoints.iter().map(|e| e.id));
        }
        for (place, row) in moved {
            self.rows[place] = row;
        }
        self.endpoints = endpoints.clone();
        new
    }
}

impl<T> Roster<T> {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn get(&self, id: EndpointId) -> Option<&T> {
        self.positions.get(id).map(|p| &self.rows[p])
    }

    pub(super) fn get_mut(&mut self, id: EndpointId) -> Option<&mut T> {
        self.positions.get(id).map(|p| &mut self.rows[p])
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Endpoint, &T)> {
        self.endpoints.iter().zip(&self.rows)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&Endpoint, &mut T)> {
        self.endpoints.iter().zip(&mut self.rows)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::Address;
    use proptest::prelude::*;

    fn set(list: &[(u32, u32)]) -> EndpointSet {
        let endpoint = |&(id, address): &(u32, u32)| Endpoint::new(EndpointId(id), Address::new(&address.to_string()));
        EndpointSet::new(list.iter().map(endpoint))
    }

    #[test]
    fn rows_stay_with_their_address() {
        let mut roster: Roster<u32> = Roster::default();
        assert_eq!(roster.update(&set(&[(4, 1), (2, 9)])), [EndpointId(4), EndpointId(2)]);
        *roster.get_mut(EndpointId(4)).unwrap() = 40;
        *roster.get_mut(EndpointId(2)).unwrap() = 20;
        // 2 belongs to another address now, 3 is new, 4 has only moved.
        assert_eq!(roster.update(&set(&[(2, 8), (3, 9), (4, 1)])), [EndpointId(2), EndpointId(3)]);
        assert_eq!([2, 3, 4].map(|id| roster.get(EndpointId(id)).copied()), [Some(0), Some(0), Some(40)]);
        // Who leaves is forgotten.
        roster.update(&EndpointSet::default());
        assert_eq!((roster.len(), roster.get(EndpointId(4))), (0, None));
        roster.update(&set(&[(4, 1)]));
        assert_eq!(roster.get(EndpointId(4)), Some(&0));
    }

    proptest! {
        /// As a map from id and address would have it.
        #[test]
        fn rows_are_those_of_a_map(
            lists in proptest::collection::vec(proptest::collection::vec((0u32..6, 0u32..3), 0..8), 1..10),
        ) {
            let mut roster: Roster<u32> = Roster::default();
            let mut map: BTreeMap<(EndpointId, Address), u32> = BTreeMap::new();
            for (number, list) in (1..).zip(&lists) {
                let set = set(list);
                let key = |e: &Endpoint| (e.id, e.address.clone());
                let known: Vec<_> = set.iter().filter(|e| !map.contains_key(&key(e))).map(|e| e.id).collect();
                prop_assert_eq!(roster.update(&set), known);
                map = set.iter().map(|e| (key(e), map.get(&key(e)).copied().unwrap_or(0))).collect();
                for (e, row) in roster.iter() {
                    prop_assert_eq!(map[&key(e)], *row);
                    prop_assert_eq!(roster.get(e.id), Some(row));
                }
                prop_assert_eq!(roster.len(), set.len());
                prop_assert!((0..6).all(|id| roster.get(EndpointId(id)).is_some() == set.iter().any(|e| e.id.0 == id)));
                for (e, row) in roster.iter_mut() {
                    *row += number * (1 + e.id.0);
                    map.insert(key(e), *row);
                }
            }
        }
    }
}
