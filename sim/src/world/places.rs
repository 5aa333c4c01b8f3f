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
    /// Live pods of each node.
    pub(crate) load: Vec<u32>,
}

impl Places {
    pub(crate) fn new(cluster: &Cluster) -> Self {
        let hops = &cluster.hops;
        let latencies = [hops.same_pod, hops.same_node, hops.same_zone, hops.other_zone];
        Self { latencies, zones: cluster.zones, load: vec![0; cluster.nodes as usize] }
    }

    /// Puts a pod on the node with the fewest, the first of equals, as a scheduler that spreads would.
    pub(crate) fn place(&mut self) -> u32 {
        let node = (0..self.load.len()).min_by_key(|&n| self.load[n]).unwrap_or(0);
        self.load[node] += 1;
        node as u32
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
        } else if a % self.zones == b % self.zones {
            Hop::SameZone
        } else {
            Hop::OtherZone
        }
    }
}
