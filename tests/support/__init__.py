"""What tests share: fakes, models, builders, and programs that run on a host."""
