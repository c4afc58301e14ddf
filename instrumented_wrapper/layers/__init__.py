"""One room per package that lies over any driver and replaces the driver's connections itself."""
