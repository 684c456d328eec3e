"""The model zoo: networks, data, one typed configuration, one training entry, one evaluation entry."""
