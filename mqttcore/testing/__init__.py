"""For whoever tests code built on the core: Hypothesis strategies for packets and for broken encodings."""
