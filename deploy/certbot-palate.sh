#!/bin/sh
# A deploy hook for certbot, or any ACME client that sets RENEWED_LINEAGE: certbot renew --deploy-hook .../certbot-palate.sh
# It gives a renewed certificate to a server folder, in whose server.toml, [gateway], `certificate` is "tls/public.pem" and
# `certificate_key` is "tls/public.key". A server that runs takes it over within seconds, and no request is lost.
#   PALATE_SITE   the server folder
#   PALATE_ROOT   the authority's root as PEM: it stands last in the chain, as invitations pin it
set -eu
umask 077
site=${PALATE_SITE:-/var/lib/palate/site}
: "${PALATE_ROOT:?must be the PEM of the authority\'s root}"
cat "$RENEWED_LINEAGE/privkey.pem" >"$site/tls/public.key.new"
cat "$RENEWED_LINEAGE/fullchain.pem" "$PALATE_ROOT" >"$site/tls/public.pem.new"
[ "$(id -u)" != 0 ] || chown --reference="$site" "$site/tls/public.key.new" "$site/tls/public.pem.new"
mv "$site/tls/public.key.new" "$site/tls/public.key"
mv "$site/tls/public.pem.new" "$site/tls/public.pem"
