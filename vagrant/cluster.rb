# What the host gives every machine of a cluster before the first one starts: a CA for the server, and for the agents a
# token that names it. Kept beside the Vagrantfile, so that a machine made anew joins the same cluster.
require "digest"
require "fileutils"
require "openssl"
require "securerandom"

module Cluster
  TEN_YEARS = 10 * 365 * 24 * 3600

  def self.ensure(folder)
    token = File.join(folder, "token")
    return token if File.exist?(token)

    FileUtils.mkdir_p(folder, mode: 0o700)
    key = OpenSSL::PKey::EC.generate("prime256v1")
    cert = certificate(key)
    write(File.join(folder, "ca.key"), key.to_pem)
    write(File.join(folder, "ca.crt"), cert.to_pem)
    write(token, "#{secret(6)}.#{secret(16)}@sha256:#{Digest::SHA256.hexdigest(public_half(key))}\n")
    token
  end

  def self.certificate(key)
    cert = OpenSSL::X509::Certificate.new
    cert.version = 2
    cert.serial = SecureRandom.random_number(1 << 120)
    cert.subject = cert.issuer = OpenSSL::X509::Name.parse("/CN=kubernetes")
    cert.public_key = OpenSSL::PKey::EC.new(public_half(key))
    cert.not_before = Time.now - 300
    cert.not_after = Time.now + TEN_YEARS
    factory = OpenSSL::X509::ExtensionFactory.new(cert, cert)
    cert.add_extension(factory.create_extension("basicConstraints", "CA:TRUE", true))
    cert.add_extension(factory.create_extension("keyUsage", "digitalSignature,keyCertSign,cRLSign", true))
    cert.add_extension(factory.create_extension("subjectKeyIdentifier", "hash"))
    cert.sign(key, OpenSSL::Digest.new("SHA256"))
  end

  # SubjectPublicKeyInfo in DER: what the pin of the token is the hash of.
  def self.public_half(key)
    key.respond_to?(:public_to_der) ? key.public_to_der : OpenSSL::PKey::EC.new(key).tap { |half| half.private_key = nil }.to_der
  end

  def self.secret(length)
    Array.new(length) { [*"a".."z", *"0".."9"].sample(random: SecureRandom) }.join
  end

  def self.write(path, text)
    File.write(path, text, perm: 0o600)
  end
end

puts Cluster.ensure(ARGV.fetch(0)) if __FILE__ == $PROGRAM_NAME
