from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.sdist import sdist

HERE = Path(__file__).parent
VERSION: dict[str, str] = {}
exec((HERE / "hireliab" / "_version.py").read_text(encoding="utf-8"), VERSION)  # noqa: S102 - our own two lines

# Each lower bound is the version that the lowest-versions job of .ci/run passes with on Python 3.10.
REQUIRED = [
    "apprise>=1.8",
    "click>=8.1",
    "cryptography>=42",
    "filelock>=3.13",
    "pika>=1.3",
    "platformdirs>=4.0",
    "pybreaker>=1.2",
    "requests>=2.32.3",
    "tenacity>=9.0",
    "urllib3>=2.2",
]
EXTRAS = {
    "cli": ["rich>=13"],
    "fast": ["orjson>=3.10"],
    "prometheus": ["prometheus-client>=0.20"],
}
# What a user may want of it; python -m hireliab.install_high_reliability installs this.
EXTRAS["all"] = sorted({requirement for extra in EXTRAS.values() for requirement in extra})
EXTRAS["test"] = [
    "aiosmtpd>=1.4.4",
    "build>=1.0",
    "hypothesis>=6.90",
    "pytest>=7.4",
    "pytest-cov>=4.1",
    *EXTRAS["all"],
]
# What the benchmarks compare with; each lower bound is the version with which they ran.
EXTRAS["bench"] = [
    'amqpstorm>=3.1; python_version >= "3.11"',
    "backoff>=2.2.1",
    "circuitbreaker>=2.0",
    "dbos>=3.4",
    "httpx>=0.27",
    'interlock-cb>=2.7; python_version >= "3.11"',
    "kombu>=5.3",
    "matplotlib>=3.8",
    "purgatory>=3.0.1",
    "pyrate-limiter>=4.0.1",
    "rich>=13",
    "sqlalchemy>=2.0.30",
    "stamina>=24.3",
]
# Tools that users put around a session, and ccxt for its recipe; tests/integration holds the tests.
EXTRAS["test-compat"] = [
    "ccxt>=4.5.20",
    "opentelemetry-instrumentation-requests>=0.51b0",
    "opentelemetry-instrumentation-urllib3>=0.51b0",
    "opentelemetry-sdk>=1.30",
    "requests-mock>=1.12.1",
    "responses>=0.25.3",
    "sentry-sdk>=2.20",
    "vcrpy>=8.3",
]
EXTRAS["lint"] = ["mypy>=1.15", "ruff>=0.9", "types-requests>=2.31"]
EXTRAS["docs"] = ["furo>=2024.1", "myst-parser>=2.0", "sphinx>=7.2"]


class SourceDistribution(sdist):
    """Without tests: setuptools takes the few files at the top of their folder, which are of no use alone."""

    def make_release_tree(self, base_dir, files):  # noqa: ANN001, ANN201 - setuptools has no types here
        super().make_release_tree(base_dir, [file for file in files if Path(file).parts[0] != "tests"])


setup(
    name="hireliab",
    version=VERSION["__version__"],
    description="High-reliability parts for blocking trading bots: verified orders, breakers, pools, alerts, a simulator",
    long_description=(HERE / "README.rst").read_text(encoding="utf-8"),
    long_description_content_type="text/x-rst",
    author="The hireliab developers",
    license="Apache-2.0",
    python_requires=">=3.10",
    cmdclass={"sdist": SourceDistribution},
    packages=find_packages(include=["hireliab", "hireliab.*"]),
    package_data={"hireliab": ["py.typed"]},
    install_requires=REQUIRED,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["hireliab = hireliab.cli:main"]},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Financial and Insurance Industry",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Office/Business :: Financial",
        "Typing :: Typed",
    ],
)
