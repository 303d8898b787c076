"""The pipeline framework: small named components, and one ``execute()`` that holds all control flow."""
