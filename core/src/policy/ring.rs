//! The ring of `ring_hash`: points on the circle of all 64-bit hashes, each of one endpoint, found by hash.
//!
//! Points are hashes, so they lie evenly: where one is can be guessed from the hash that is looked for. The circle is cut into
//! sectors of equal angle with a few hundred points each. In a sector of n points, the one at fraction f of its angle is the
//! n·f-th give or take √n / 2, so every point also says at which point the n-th part of its own number begins, and a look-up
//! reads that and goes on from there, past one point on average. Both are close by in memory.
//!
//! Rings share the sectors in which they do not differ: when one of 10,000 endpoints changes, with 160 points of 1.6 million,
//! some 320 of 8,192 sectors are made anew, and the others are neither copied nor looked at.

use std::ops::Range;
use std::sync::Arc;

use xxhash_rust::xxh64::xxh64;

use super::endpoint_states::Positions;
use crate::{Endpoint, EndpointId, EndpointSet};

/// A point, and whose it is.
type Point = (u64, EndpointId);

/// A point where it stands in its sector.
#[derive(Debug, Clone, Copy)]
struct Entry {
    hash: u64,
    owner: EndpointId,
    /// If this is the k-th of n: the first point of the sector at k/n of its angle or later.
    first: u32,
}

/// Points in the order of their hashes. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Ring {
    /// 2^bits of them.
    sectors: Arc<[Arc<[Entry]>]>,
    bits: u32,
    len: usize,
}

impl Default for Ring {
    fn default() -> Self {
        Self { sectors: Arc::new([Arc::new([])]), bits: 0, len: 0 }
    }
}

impl Ring {
    /// Points in a sector: so many up to twice as many when the sectors are laid out. Our choice: a sector is a page or less, and a
    /// ring of gRPC's greatest size has 32.
    const PER_SECTOR: usize = 128;

    /// The ring with some points gone and some new ones.
    fn changed(&self, gone: Vec<Point>, new: Vec<Point>) -> Self {
        if gone.is_empty() && new.is_empty() {
            return self.clone();
        }
        let before = if self.len == 0 { Self::laid_out_for(new.len()) } else { self.clone() };
        let ring = before.apply(gone, new);
        // Only when the ring has grown or shrunk by much, so that an endpoint that comes and goes does not cause it each time.
        let per_sector = ring.len / ring.sectors.len();
        let (most, fewest) = (4 * Self::PER_SECTOR, Self::PER_SECTOR / 4);
        if per_sector > most || per_sector < fewest && ring.bits > 0 {
            let all = ring.sectors.iter().flat_map(|s| s.iter().map(|e| (e.hash, e.owner))).collect();
            return Self::laid_out_for(ring.len).apply(Vec::new(), all);
        }
        ring
    }

    /// No points yet, but sectors for so many.
    fn laid_out_for(len: usize) -> Self {
        let bits = (len / Self::PER_SECTOR).max(1).ilog2();
        Self { sectors: std::iter::repeat_n(Arc::from([]), 1 << bits).collect(), bits, len: 0 }
    }

    fn apply(&self, gone: Vec<Point>, new: Vec<Point>) -> Self {
        let (mut gone, mut new) = (self.by_sector(&gone), self.by_sector(&new));
        let sector = |(s, old): (usize, &Arc<[Entry]>)| match (gone.of(s), new.of(s)) {
            ([], []) => old.clone(),
            (gone, new) => {
                gone.sort_unstable();
                let stays = old.iter().map(|e| (e.hash, e.owner)).filter(|p| gone.binary_search(p).is_err());
                let mut points: Vec<Point> = stays.chain(new.iter().copied()).collect();
                points.sort_unstable();
                self.sector(&points)
            }
        };
        let sectors: Arc<[_]> = self.sectors.iter().enumerate().map(sector).collect();
        Self { len: sectors.iter().map(|s| s.len()).sum(), bits: self.bits, sectors }
    }

    /// A sector of these points, which are sorted.
    fn sector(&self, points: &[Point]) -> Arc<[Entry]> {
        let mut first = 0;
        let entry = |(k, &(hash, owner)): (usize, &Point)| {
            while points.get(first).is_some_and(|p| self.part(p.0, points.len()) < k) {
                first += 1;
            }
            Entry { hash, owner, first: first as u32 }
        };
        points.iter().enumerate().map(entry).collect()
    }

    /// Number of the sector: the upper bits.
    #[inline]
    fn sector_of(&self, hash: u64) -> usize {
        hash.rotate_left(self.bits) as usize & ((1 << self.bits) - 1)
    }

    /// In which of n equal parts of its sector a hash lies: n · the lower bits, as a fraction.
    #[inline]
    fn part(&self, hash: u64, n: usize) -> usize {
        ((u128::from(hash << self.bits) * n as u128) >> 64) as usize
    }

    /// The owners of all points: of the first whose hash is this or greater, of the one after, and so on around the circle.
    #[inline]
    pub(super) fn from(&self, hash: u64) -> impl Iterator<Item = EndpointId> {
        self.walk(hash)
    }

    #[inline]
    fn walk(&self, hash: u64) -> Walk<'_> {
        let number = self.sector_of(hash);
        let sector = &*self.sectors[number];
        let mut next = sector.get(self.part(hash, sector.len())).map_or(0, |e| e.first as usize);
        while sector.get(next).is_some_and(|e| e.hash < hash) {
            next += 1;
        }
        Walk { ring: self, sector, number, next, left: self.len }
    }

    fn by_sector(&self, points: &[Point]) -> Sorted {
        let mut starts = vec![0u32; self.sectors.len() + 1];
        points.iter().for_each(|p| starts[self.sector_of(p.0) + 1] += 1);
        for s in 1..starts.len() {
            starts[s] += starts[s - 1];
        }
        let mut free = starts.clone();
        let mut sorted = vec![(0, EndpointId(0)); points.len()];
        for &point in points {
            let place = &mut free[self.sector_of(point.0)];
            sorted[*place as usize] = point;
            *place += 1;
        }
        Sorted { points: sorted, starts }
    }
}

/// Points by sector, in any order within.
struct Sorted {
    points: Vec<Point>,
    /// Where each sector's begin, and the end.
    starts: Vec<u32>,
}

impl Sorted {
    fn of(&mut self, sector: usize) -> &mut [Point] {
        &mut self.points[self.starts[sector] as usize..self.starts[sector + 1] as usize]
    }
}

/// Once around the ring.
struct Walk<'a> {
    ring: &'a Ring,
    sector: &'a [Entry],
    number: usize,
    next: usize,
    left: usize,
}

impl Iterator for Walk<'_> {
    type Item = EndpointId;

    #[inline]
    fn next(&mut self) -> Option<EndpointId> {
        self.left = self.left.checked_sub(1)?;
        loop {
            if let Some(entry) = self.sector.get(self.next) {
                self.next += 1;
                return Some(entry.owner);
            }
            self.number = (self.number + 1) % self.ring.sectors.len();
            (self.sector, self.next) = (&self.ring.sectors[self.number], 0);
        }
    }
}

/// Who has how many of a ring's points.
#[derive(Debug)]
pub(super) struct Shares {
    min_ring_size: u32,
    max_ring_size: u32,
    endpoints: EndpointSet,
    /// In the order in which they get their points: where the endpoint stands among `endpoints`, and how many it has.
    shares: Vec<(usize, u32)>,
}

impl Shares {
    pub(super) fn new(min_ring_size: u32, max_ring_size: u32) -> Self {
        Self { min_ring_size, max_ring_size, endpoints: EndpointSet::default(), shares: Vec::new() }
    }

    /// The ring of these endpoints, of which `positions` says where they stand, from that of those before.
    pub(super) fn update(&mut self, ring: &Ring, endpoints: &EndpointSet, positions: &Positions) -> Ring {
        let at = |position: usize| &endpoints.as_slice()[position];
        let (mut gone, mut new) = (Vec::new(), Vec::new());
        // Those that stay come first, in the order that they had, so that sorting again takes little.
        let mut order = Vec::with_capacity(endpoints.len());
        let mut had = vec![None; endpoints.len()];
        for &(position, count) in &self.shares {
            let old = &self.endpoints.as_slice()[position];
            match positions.get(old.id).filter(|&p| at(p).hash_key() == old.hash_key()) {
                Some(position) => {
                    had[position] = Some(count);
                    order.push(position);
                }
                None => points(old, 0..count, &mut gone),
            }
        }
        order.extend((0..endpoints.len()).filter(|&p| had[p].is_none()));
        order.sort_by_key(|&p| (at(p).hash_key(), &at(p).address));

        let counts = replicas(order.iter().map(|&p| at(p).weight), self.min_ring_size, self.max_ring_size);
        self.shares = order.iter().copied().zip(counts).collect();
        for &(position, count) in &self.shares {
            let had = had[position].unwrap_or(0);
            points(at(position), had..count, &mut new);
            points(at(position), count..had, &mut gone);
        }
        self.endpoints = endpoints.clone();
        ring.changed(gone, new)
    }
}

/// Adds these of the endpoint's points.
fn points(endpoint: &Endpoint, numbers: Range<u32>, points: &mut Vec<Point>) {
    if numbers.is_empty() {
        return;
    }
    let mut text = format!("{}_", endpoint.hash_key()).into_bytes();
    let prefix = text.len();
    for number in numbers {
        text.truncate(prefix);
        // Its decimal digits. Formatting takes longer than hashing, and a ring may have millions.
        let mut rest = number;
        loop {
            text.push(b'0' + (rest % 10) as u8);
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        text[prefix..].reverse();
        points.push((xxh64(&text, 0), endpoint.id));
    }
}

/// How many points each of these weights gets, in their order, as Envoy (`ring_hash_lb.cc`) and gRPC compute it.
fn replicas(
    weights: impl Iterator<Item = u32> + Clone,
    min_ring_size: u32,
    max_ring_size: u32,
) -> impl Iterator<Item = u32> {
    let sum = weights.clone().map(u64::from).sum::<u64>() as f64;
    let least = f64::from(weights.clone().min().unwrap_or(1)) / sum;
    let scale = ((least * f64::from(min_ring_size)).ceil() / least).min(f64::from(max_ring_size));
    let (mut current, mut target) = (0.0, 0.0);
    weights.map(move |weight| {
        target += scale * (f64::from(weight) / sum);
        // As many as it takes until current >= target.
        let count = (f64::ceil(target) - current).max(0.0);
        current += count;
        count as u32
    })
}

#[cfg(test)]
mod tests;
