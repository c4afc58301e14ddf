#!/bin/sh
# Fetch MySQL's programs into a folder, with the libraries that they need, and change nothing else on the machine.
# usage: fetch_mysql.sh FOLDER      then FOLDER/bin has mysqld and mysql; 20 s, 200 MB. Does nothing if they are there.
#
# They come from Debian's unstable suite, because no stable suite has them, through the package source that this machine
# uses. Without such a source the script says so and exits with status 3.
set -eu
folder=${1:?a folder is needed}
[ ! -x "$folder/bin/mysqld" ] || exit 0
source=$(apt-get indextargets --format '$(REPO_URI)' 2>/dev/null | grep -m1 'debian/*$') || {
    echo "MySQL is not fetched: this machine has no source of Debian packages. Tests that need MySQL are skipped." >&2
    exit 3
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/tree"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $source sid main" > "$work/sources"
: > "$work/status" # no package is installed: apt fetches all dependencies
chmod -R a+rX "$work"
apt() {
    apt-get -q -y -o Dir::Etc::sourcelist="$work/sources" -o Dir::Etc::sourceparts=- -o Dir::State="$work" \
        -o Dir::State::lists="$work/lists" -o Dir::State::status="$work/status" -o Dir::Cache="$work/cache" \
        -o APT::Sandbox::User=root -o Debug::NoLocking=true "$@" > "$work/log" 2>&1 || {
        tail -n 5 "$work/log" >&2
        exit 1
    }
}
apt update
apt --no-install-recommends --download-only install mysql-server-core mysql-client-core
for package in "$work"/cache/archives/*.deb; do dpkg -x "$package" "$work/tree"; done

# The programs run with their own loader and libraries, not with the machine's.
new=$folder.new
rm -rf "$new"
mkdir -p "$new/bin" "$new/share"
cp "$work/tree/usr/sbin/mysqld" "$work/tree/usr/bin/mysql" "$new/"
cp -r "$work/tree/usr/share/mysql/english" "$work/tree/usr/share/mysql/charsets" "$new/share/"
cp -r "$work/tree/usr/lib/mysql" "$new/lib"
cp -P "$work"/tree/usr/lib/*-linux-gnu/*.so* "$new/lib/"
for name in mysqld mysql; do
    case $name in
    mysqld) own='--lc-messages-dir="$here/share" --character-sets-dir="$here/share/charsets"' ;;
    *) own='--character-sets-dir="$here/share/charsets"' ;;
    esac
    cat > "$new/bin/$name" << RUN
#!/bin/sh
here=\$(cd "\$(dirname "\$0")/.." && pwd)
for loader in "\$here"/lib/ld-linux*.so.*; do break; done
exec "\$loader" --library-path "\$here/lib" "\$here/$name" "\$@" $own --plugin-dir="\$here/lib/plugin"
RUN
    chmod +x "$new/bin/$name"
done
"$new/bin/mysqld" --no-defaults --version
rm -rf "$folder"
mv "$new" "$folder"
