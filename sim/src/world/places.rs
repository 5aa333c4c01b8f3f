//! Nodes, zones, and how far a message goes.

use lb_core::Nanos;
use scenarios::Cluster;

/// How far a message goes; indexes the lanes of hop latencies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hop {
    SamePod,
    SameNode,
    SameZone,
    OtherZone,
}

impl Hop {
    pub(crate) const ALL: [Self; 4] = [Self::SamePod, Self::SameNode, Self::SameZone, Self::OtherZone];

    /// Whether a node border is crossed.
    pub(crate) fn leaves_node(self) -> bool {
        matches!(self, Self::SameZone | Self::OtherZone)
    }
}

/// Which pods are where.
#[derive(Debug)]
pub(crate) struct Places {
    /// One-way latency of each [`Hop`].
    latencies: [Nanos; 4],
    zones: u32,
    /// Whether the nodes of a zone are Ready.
    ready: Vec<bool>,
    /// Live pods of each node.
    pub(crate) load: Vec<u32>,
}

impl Places {
    pub(crate) fn new(cluster: &Cluster) -> Self {
        let hops = &cluster.hops;
        let latencies = [hops.same_pod, hops.same_node, hops.same_zone, hops.other_zone];
        Self {
            latencies,
            zones: cluster.zones,
            ready: vec![true; cluster.zones as usize],
            load: vec![0; cluster.nodes as usize],
        }
    }

    /// Puts a pod on the Ready node with the fewest, the first of equals, as a scheduler that spreads would.
    pub(crate) fn place(&mut self) -> u32 {
        let rank = |&node: &u32| (!self.is_ready(self.zone(node)), self.load[node as usize]);
        let node = (0..self.nodes()).min_by_key(rank).unwrap_or(0);
        self.place_on(node)
    }

    /// The zone a node is in.
    pub(crate) fn zone(&self, node: u32) -> u32 {
        node % self.zones
    }

    /// Whether a zone's nodes are Ready.
    pub(crate) fn is_ready(&self, zone: u32) -> bool {
        self.ready[zone as usize]
    }

    pub(crate) fn set_ready(&mut self, zone: u32, ready: bool) {
        self.ready[zone as usize] = ready;
    }

    /// Puts a pod on this node (one proxy on every node).
    pub(crate) fn place_on(&mut self, node: u32) -> u32 {
        self.load[node as usize] += 1;
        node
    }

    /// A pod has left.
    pub(crate) fn leave(&mut self, node: u32) {
        self.load[node as usize] -= 1;
    }

    /// One-way latency of a hop.
    pub(crate) fn latency(&self, hop: Hop) -> Nanos {
        self.latencies[hop as usize]
    }

    pub(crate) fn nodes(&self) -> u32 {
        self.load.len() as u32
    }

    /// Between two nodes.
    pub(crate) fn hop(&self, a: u32, b: u32) -> Hop {
        if a == b {
            Hop::SameNode
        } else if self.zone(a) == self.zone(b) {
            Hop::SameZone
        } else {
            Hop::OtherZone
        }
    }
}
