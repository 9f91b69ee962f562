//! Tokens as text, what they allow, and when they are refused.

mod network;
mod role;
mod scope;
mod token_string;
mod verdict;
