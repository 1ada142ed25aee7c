//! Access rules, decisions and visibility
