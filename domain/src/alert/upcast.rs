//! From old event versions to the current ones. There is one version so far.

use cqrs_es::persist::EventUpcaster;

pub(super) fn upcasters() -> Vec<Box<dyn EventUpcaster>> {
    Vec::new()
}
