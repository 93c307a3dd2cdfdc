//! States of the gate.
