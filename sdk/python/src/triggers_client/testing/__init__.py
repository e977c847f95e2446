"""For the tests of applications: signed webhooks, and a service of their own.

With `pytest_plugins = ["triggers_client.testing.fixtures"]` in `conftest.py`, pytest has the fixture
`triggers_service`.
"""

from triggers_client.testing.samples import Sample, new_secret, signed_sample
from triggers_client.testing.service import RunningService, ServiceDidNotStart

__all__ = ["RunningService", "Sample", "ServiceDidNotStart", "new_secret", "signed_sample"]
