"""Cases that do not hold yet, by the test's name. A case that begins to hold fails until its line here is gone."""

NOT_YET: dict[str, str] = {}
