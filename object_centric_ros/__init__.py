"""Object-centric world models for robots: discover, track, predict and rearrange the things on a table."""

from pkgutil import extend_path

# The generated msg, srv and action packages are installed; the sources may come from a checkout earlier on the path.
__path__ = extend_path(__path__, __name__)
__version__ = '0.1.0'
