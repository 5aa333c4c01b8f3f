//! Who a caller is among its like: policies that share endpoints out among clients need to know.
//!
//! A process knows the pods of its own Deployment, itself among them, by their order of creation, and hears of a change at
//! once: in a cluster it takes as long as names do, and clients disagree for that time.

use lb_core::Local;
use lb_core::channel::Input;

use super::callers::Caller;
use super::{PodId, World};
use crate::engine::Id;

impl World<'_> {
    /// Where a pod stands among its peers.
    pub(super) fn local(&self, pod: PodId) -> Local {
        let here = &self.pods[pod.0 as usize];
        let peers = &self.deployments[here.deployment].pods;
        let mut counts = vec![0; self.localities.len()];
        for peer in peers {
            counts[self.places.zone(self.pods[peer.0 as usize].node) as usize] += 1;
        }
        let zones = self.localities.iter().zip(counts).map(|(locality, n)| (locality.zone.clone(), n)).collect();
        let zone = Some(self.localities[self.places.zone(here.node) as usize].zone.clone());
        // One that was deleted, and goes on for a while, is not of them: it stands behind the last.
        let instance = peers.iter().position(|&peer| peer == pod).unwrap_or(peers.len()) as u32;
        Local { zone, instance, instances: (peers.len() as u32).max(instance + 1), zones }
    }

    /// There is one pod more, or one less, of a deployment.
    pub(super) fn tell_peers(&mut self, deployment: usize) {
        if !self.needs.local {
            return;
        }
        let of_deployment = |c: &Caller| c.needs.local && self.pods[c.pod.0 as usize].deployment == deployment;
        let callers: Vec<(Id<Caller>, PodId)> =
            self.callers.iter().filter(|(_, c)| of_deployment(c)).map(|(id, c)| (id, c.pod)).collect();
        for (caller, pod) in callers {
            let local = self.local(pod);
            self.tell(caller, Input::Local(local));
        }
    }
}
