mod order;
mod properties;
