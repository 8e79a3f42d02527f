"""A small certificate authority, made by the openssl command."""

import os
import subprocess


def _openssl(*arguments, **kwargs):
    done = subprocess.run(["openssl", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          **kwargs)
    if done.returncode:
        raise RuntimeError(f"openssl {arguments[0]}: {done.stdout}")
    return done.stdout


class Certificate:
    def __init__(self, cert, key):
        self.cert = cert
        self.key = key


class Certificates:
    """ca: path of the authority's certificate. other_ca: of one that signed nothing here."""

    def __init__(self, directory):
        self.directory = directory
        os.makedirs(directory, exist_ok=True)
        os.chmod(directory, 0o755)
        self._ca = self._authority("ca", "Helios Test CA")
        self._other = self._authority("other", "Somebody Else's CA")
        self.ca = self._ca.cert
        self.other_ca = self._other.cert
        self.server = self.issue("server", "localhost", "DNS:localhost,IP:127.0.0.1,IP:::1")
        self.wrong_host = self.issue("wrong-host", "elsewhere.invalid", "DNS:elsewhere.invalid")
        self.untrusted = self.issue("untrusted", "localhost", "DNS:localhost,IP:127.0.0.1", authority=self._other)

    def path(self, name):
        return os.path.join(self.directory, name)

    def _key(self, name):
        path = self.path(name + ".key")
        _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path)
        os.chmod(path, 0o600)
        return path

    def _authority(self, name, common_name):
        key = self._key(name)
        cert = self.path(name + ".crt")
        _openssl("req", "-new", "-x509", "-sha256", "-key", key, "-out", cert, "-days", "30", "-subj",
                 f"/CN={common_name}", "-addext", "basicConstraints=critical,CA:TRUE", "-addext",
                 "keyUsage=critical,keyCertSign,cRLSign")
        return Certificate(cert, key)

    def issue(self, name, common_name, alternative_names=None, authority=None):
        """A certificate for a server (with alternative names) or a client (common name = its user)."""
        authority = authority or self._ca
        key, cert, request = self._key(name), self.path(name + ".crt"), self.path(name + ".csr")
        _openssl("req", "-new", "-sha256", "-key", key, "-out", request, "-subj", f"/CN={common_name}")
        extensions = self.path(name + ".ext")
        with open(extensions, "w", encoding="utf-8") as f:
            f.write("basicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth,clientAuth\n")
            if alternative_names:
                f.write(f"subjectAltName={alternative_names}\n")
        _openssl("x509", "-req", "-sha256", "-in", request, "-CA", authority.cert, "-CAkey", authority.key,
                 "-CAcreateserial", "-out", cert, "-days", "30", "-extfile", extensions)
        return Certificate(cert, key)
