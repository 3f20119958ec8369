//! What is done about each modifier element of R4.
