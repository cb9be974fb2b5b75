from hypothesis import Phase, settings

# The same examples in every run, so that a failure is of the change that was made. To look for new ones:
# pytest --hypothesis-profile=explore
settings.register_profile("steady", derandomize=True, deadline=None)
settings.register_profile("explore", max_examples=2000, deadline=None)
# "make mutate" asks whether a test fails, not what the smallest example is.
settings.register_profile("mutants", settings.get_profile("steady"), phases=[Phase.explicit, Phase.generate])
settings.load_profile("steady")
