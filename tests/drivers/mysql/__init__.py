"""What is special to MariaDB and MySQL and to each of their drivers, on real servers."""
