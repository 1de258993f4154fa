"""The version of this program; the package and its commands say it alike."""

VERSION = "0.1.0"
