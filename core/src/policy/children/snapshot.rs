//! How a snapshot is split among the children.

use std::collections::BTreeMap;

use super::{Child, Children, Entry, Key};
use crate::{Connectivity, Context, Endpoint, EndpointId, EndpointSet};

impl<K: Key> Children<K> {
    /// Splits a snapshot by key. A child whose key is gone is gone; a new one is not started.
    pub(in crate::policy) fn update(&mut self, cx: &mut Context<'_>, endpoints: &EndpointSet) {
        let (keys, numbered) = self.number(endpoints);
        let slots: Vec<u32> = self.list.iter().map(|child| child.slot).collect();
        let mut free = (0..).filter(|slot| !slots.contains(slot));
        let mut before = std::mem::take(&mut self.list).into_iter().peekable();
        let mut index_of = vec![0; keys.len()];
        for (key, number) in keys {
            while before.next_if(|child| child.key < key).is_some() {}
            let child = before.next_if(|child| child.key == key);
            index_of[number] = self.list.len();
            self.list.push(child.unwrap_or_else(|| Child::new(key, free.next().expect("fewer than 2^32 children"))));
        }
        self.by_slot = vec![0; self.list.iter().map(|child| child.slot as usize + 1).max().unwrap_or(0)];
        for (index, child) in self.list.iter().enumerate() {
            self.by_slot[child.slot as usize] = index;
        }
        let children: Vec<usize> = numbered.into_iter().map(|number| index_of[number]).collect();

        self.split(endpoints, &children);
        let moved = self.register(endpoints, &children);
        for child in &mut self.list {
            if let Some(policy) = &mut child.policy {
                policy.update(cx, &child.endpoints);
            }
        }
        for (child, endpoint, state) in moved {
            self.list[child].tell(cx, endpoint, state);
        }
    }

    /// The keys of a snapshot, each with a number, and the number of each endpoint.
    fn number(&self, endpoints: &EndpointSet) -> (BTreeMap<K, usize>, Vec<usize>) {
        let mut keys = BTreeMap::new();
        // Most endpoints are where they were: the number of each child's key, once it is known.
        let mut known = vec![None; self.list.len()];
        let mut number = |endpoint: &Endpoint| {
            let entry = self.entries.get(endpoint.id.index()).and_then(Option::as_ref);
            let child = entry.map(|entry| self.by_slot[entry.slot as usize]);
            let child = child.filter(|&child| self.list[child].key.is_of(endpoint));
            if let Some(number) = child.and_then(|child| known[child]) {
                return number;
            }
            let next = keys.len();
            let number = *keys.entry(K::of(endpoint)).or_insert(next);
            if let Some(child) = child {
                known[child] = Some(number);
            }
            number
        };
        let numbered = endpoints.iter().map(&mut number).collect();
        (keys, numbered)
    }

    /// Gives each child its part of a snapshot. One that is the same as before is not copied.
    fn split(&mut self, endpoints: &EndpointSet, children: &[usize]) {
        if let [only] = &mut self.list[..] {
            only.endpoints = endpoints.clone();
            only.renewed = true;
            return;
        }
        let mut same = vec![0; self.list.len()];
        let mut parts: Vec<Option<Vec<Endpoint>>> = vec![None; self.list.len()];
        for (endpoint, &child) in endpoints.iter().zip(children) {
            let before = self.list[child].endpoints.as_slice();
            match &mut parts[child] {
                Some(part) => part.push(endpoint.clone()),
                None if before.get(same[child]) == Some(endpoint) => same[child] += 1,
                part => {
                    let mut so_far = Vec::with_capacity(before.len() + 1);
                    so_far.extend_from_slice(&before[..same[child]]);
                    so_far.push(endpoint.clone());
                    *part = Some(so_far);
                }
            }
        }
        for ((child, same), part) in self.list.iter_mut().zip(same).zip(parts) {
            let before = child.endpoints.as_slice();
            if part.is_some() || same < before.len() {
                child.endpoints = endpoints.derive(part.unwrap_or_else(|| before[..same].to_vec()));
                child.renewed = true;
            } else if child.endpoints.local() != endpoints.local() {
                child.endpoints = child.endpoints.clone().with_local(endpoints.local().clone());
            }
        }
    }

    /// Notes where endpoints are now, and forgets those that are gone; whose child, other than before, has to hear of which
    /// endpoint in which state.
    fn register(&mut self, endpoints: &EndpointSet, children: &[usize]) -> Vec<(usize, EndpointId, Connectivity)> {
        let mut moved = Vec::new();
        let mut listed = vec![false; self.entries.len().max(endpoints.table_len())];
        self.owners.reserve(endpoints);
        self.entries.resize(listed.len(), None);
        for (endpoint, &child) in endpoints.iter().zip(children) {
            let (index, slot) = (endpoint.id.index(), self.list[child].slot);
            listed[index] = true;
            // The address tells an endpoint that stayed from a new one under a reused id.
            match &mut self.entries[index] {
                Some(entry) if entry.address == endpoint.address => {
                    if entry.slot == slot {
                        continue;
                    }
                    entry.slot = slot;
                    if entry.state != Connectivity::Idle {
                        moved.push((child, endpoint.id, entry.state));
                    }
                }
                entry => {
                    let (address, state) = (endpoint.address.clone(), Connectivity::Idle);
                    *entry = Some(Entry { address, slot, state, failed: false, wanted: false });
                }
            }
            self.owners.set(index, Some(slot));
        }
        for (index, entry) in self.entries.iter_mut().enumerate().filter(|(index, _)| !listed[*index]) {
            *entry = None;
            self.owners.set(index, None);
        }
        moved
    }
}
